//! Parents, node ids and log leaves of a whole round.
//!
//! ```text
//! node id = SHA256("citychain/node/v1\0" ‖ u8 len ‖ rule ‖ genesis ‖ u64 round ‖ u32 seq ‖ tx id
//!                  ‖ u8 n ‖ n parents' node ids ‖ [pop])
//! leaf    = 01 ‖ node id                      an approved transaction
//!         | 02 ‖ u64 round ‖ u32 seq ‖ tx id ‖ u8 len ‖ code ‖ u8 len ‖ reason    a rejected one
//! ```
//!
//! Integers are big-endian. `seq` counts all sealed transactions of the round from 0, the rejected
//! ones too. A parent always stands at a smaller (round, seq), so no cycle can be written down.

use std::collections::HashMap;

use sha2::{Digest, Sha256};

use crate::Hash;
use crate::merkle::hash_leaf;
use crate::transactions::Body;

pub const PARENTS_MAX: usize = 8;
/// How many tips of earlier rounds a node is tied to.
const TIPS_PICKED: u8 = 2;

/// A linked node by place and id. The genesis is at round 0, seq 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NodeRef {
    pub round: u64,
    pub seq: u32,
    pub node_id: Hash,
}

/// A parent: a node of the same round by its seq, or one of an earlier round.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parent<R> {
    Here(u32),
    Earlier(R),
}

/// A sealed transaction whose parents are wanted.
pub struct Sealed<'a> {
    pub tx_id: &'a Hash,
    pub body: Body<'a>,
    pub is_approved: bool,
}

/// What the rounds before left. References are of any type that shows a [`NodeRef`], so that a
/// caller gets back the ones that it gave.
pub struct Linked<'a, R> {
    pub genesis: &'a R,
    /// RFC 6962 root of the city's log before the round.
    pub previous_root: &'a Hash,
    /// Nodes that some transaction of the round depends on, by transaction id.
    pub dependencies: &'a HashMap<Hash, R>,
    /// Authors' latest nodes, by key id.
    pub latest: &'a HashMap<Hash, R>,
    /// The linked nodes of the latest earlier round that has any.
    pub tips: &'a [R],
}

/// The parents that the rule `sealed-rounds` gives to each transaction of a round: its
/// dependencies, its author's previous node, two tips; without repeats. Rejected ones have none.
///
/// # Errors
/// A message, if the dependency of an approved transaction is not known.
pub fn sealed_rounds_parents<'a, R: AsRef<NodeRef>>(
    order: &[Sealed<'_>],
    linked: &Linked<'a, R>,
) -> Result<Vec<Vec<Parent<&'a R>>>, String> {
    let mut here = HashMap::with_capacity(order.len());
    let mut latest_here = HashMap::with_capacity(order.len());
    let mut all = Vec::with_capacity(order.len());
    for (seq, sealed) in (0u32..).zip(order) {
        let mut parents = Vec::new();
        if sealed.is_approved {
            for id in &sealed.body.depends_on {
                let earlier = linked.dependencies.get(*id).map(Parent::Earlier);
                let parent = here.get(id).copied().map(Parent::Here).or(earlier);
                add(&mut parents, parent.ok_or_else(|| unknown_dependency(seq))?);
            }
            let author = sealed.body.author;
            let earlier = linked.latest.get(author).map(Parent::Earlier);
            let previous = latest_here
                .insert(author, seq)
                .map(Parent::Here)
                .or(earlier);
            previous
                .into_iter()
                .for_each(|parent| add(&mut parents, parent));
            for j in (0..TIPS_PICKED).filter(|_| !linked.tips.is_empty()) {
                let index = tip_index(linked.previous_root, sealed.tx_id, j, linked.tips.len());
                add(&mut parents, Parent::Earlier(&linked.tips[index]));
            }
            if parents.is_empty() {
                parents.push(Parent::Earlier(linked.genesis));
            }
            here.insert(sealed.tx_id, seq);
        }
        all.push(parents);
    }
    Ok(all)
}

fn unknown_dependency(seq: u32) -> String {
    format!(
        "order[{seq}] is approved, but one of its dependencies is neither approved before it nor \
         in dependencies"
    )
}

fn add<'a, R: AsRef<NodeRef>>(parents: &mut Vec<Parent<&'a R>>, parent: Parent<&'a R>) {
    let same = |other: &Parent<&R>| match (other, &parent) {
        (Parent::Here(a), Parent::Here(b)) => a == b,
        (Parent::Earlier(a), Parent::Earlier(b)) => a.as_ref() == b.as_ref(),
        _ => false,
    };
    if !parents.iter().any(same) {
        parents.push(parent);
    }
}

/// `SHA256("citychain/tip/v1\0" ‖ root ‖ tx id ‖ j)` as a 256-bit integer, modulo `count`.
fn tip_index(root: &Hash, tx_id: &Hash, j: u8, count: usize) -> usize {
    let hash = Sha256::new_with_prefix(b"citychain/tip/v1\0")
        .chain_update(root)
        .chain_update(tx_id)
        .chain_update([j])
        .finalize();
    // Long division, 32 bits at a time: a seq is a `u32`, so a round has no more nodes than that.
    let digits = hash
        .chunks_exact(4)
        .map(|digit| digit.iter().fold(0, |n, b| n << 8 | u64::from(*b)));
    digits.fold(0, |rest, digit| (rest << 32 | digit) % count as u64) as usize
}

/// What is to be linked of one sealed transaction; `parents` is empty for a rejected one.
pub struct Linkable<'a> {
    pub tx_id: &'a Hash,
    pub is_approved: bool,
    pub parents: &'a [Parent<NodeRef>],
    /// Hash of the judgement of place, where the city judges it.
    pub pop: Option<&'a Hash>,
}

/// Node ids of a round in order of seq; none for a rejected transaction.
///
/// # Errors
/// A message naming the entry whose parents break the rule: 1 to `PARENTS_MAX` for an approved
/// one, none for a rejected one, no repeats, each at a smaller (round, seq) and linked.
pub fn node_ids(
    rule: &str,
    genesis: &Hash,
    round: u64,
    order: &[Linkable<'_>],
) -> Result<Vec<Option<Hash>>, String> {
    let rule_bytes = u8::try_from(rule.len()).ok().filter(|length| *length > 0);
    let rule_bytes = rule_bytes.ok_or("rule must be 1 to 255 bytes of UTF-8")?;
    let prefix = Sha256::new_with_prefix(b"citychain/node/v1\0")
        .chain_update([rule_bytes])
        .chain_update(rule)
        .chain_update(genesis)
        .chain_update(round.to_be_bytes());
    let mut ids = Vec::with_capacity(order.len());
    for (seq, entry) in (0u32..).zip(order) {
        let parents =
            resolve(entry, round, &ids).map_err(|detail| format!("parents[{seq}] {detail}"))?;
        ids.push(entry.is_approved.then(|| {
            let mut hash = prefix.clone();
            hash.update(seq.to_be_bytes());
            hash.update(entry.tx_id);
            hash.update([parents.len() as u8]);
            parents.iter().for_each(|id| hash.update(id));
            entry.pop.iter().for_each(|pop| hash.update(pop));
            hash.finalize().into()
        }));
    }
    Ok(ids)
}

/// The parents' node ids, where `ids` are those of the round so far.
fn resolve(entry: &Linkable<'_>, round: u64, ids: &[Option<Hash>]) -> Result<Vec<Hash>, String> {
    let count = entry.parents.len();
    if !entry.is_approved && count > 0 {
        return Err("must be empty: the transaction is rejected".into());
    }
    if entry.is_approved && !(1..=PARENTS_MAX).contains(&count) {
        return Err(format!("has {count} parents, must be 1 to {PARENTS_MAX}"));
    }
    let mut parents = Vec::with_capacity(count);
    for parent in entry.parents {
        let id = match parent {
            Parent::Here(seq) => match ids.get(*seq as usize) {
                Some(Some(id)) => *id,
                Some(None) => return Err(format!("names seq {seq}, which is rejected")),
                None => return Err(format!("names seq {seq}, which does not stand before it")),
            },
            Parent::Earlier(node) if node.round < round => node.node_id,
            Parent::Earlier(node) => {
                return Err(format!(
                    "names a node of round {}, not an earlier one",
                    node.round
                ));
            }
        };
        if parents.contains(&id) {
            return Err("names a parent more than once".into());
        }
        parents.push(id);
    }
    Ok(parents)
}

/// What became of a sealed transaction, as its log leaf says it.
pub enum Leaf<'a> {
    Approved {
        node_id: &'a Hash,
    },
    Rejected {
        round: u64,
        seq: u32,
        tx_id: &'a Hash,
        code: &'a str,
        reason: &'a str,
    },
}

/// The leaf's hash in the log.
///
/// # Errors
/// A message, if the code is not 1 to 32 characters of A-Z, 0-9 and `_`, or the reason is longer
/// than 255 bytes.
pub fn leaf_hash(leaf: &Leaf<'_>) -> Result<Hash, String> {
    let data = match leaf {
        Leaf::Approved { node_id } => [&[1], node_id.as_slice()].concat(),
        Leaf::Rejected {
            round,
            seq,
            tx_id,
            code,
            reason,
        } => {
            let allowed = |byte: u8| matches!(byte, b'A'..=b'Z' | b'0'..=b'9' | b'_');
            if !(1..=32).contains(&code.len()) || !code.bytes().all(allowed) {
                return Err(format!(
                    "code {code:?} must be 1 to 32 characters of A-Z, 0-9 and _"
                ));
            }
            let Ok(reason_length) = u8::try_from(reason.len()) else {
                return Err(format!(
                    "a reason of {} bytes; at most 255 are allowed",
                    reason.len()
                ));
            };
            [
                &[2],
                round.to_be_bytes().as_slice(),
                &seq.to_be_bytes(),
                tx_id.as_slice(),
                &[code.len() as u8],
                code.as_bytes(),
                &[reason_length],
                reason.as_bytes(),
            ]
            .concat()
        }
    };
    Ok(hash_leaf(&data))
}
