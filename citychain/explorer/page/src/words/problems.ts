import { language } from "../language";
import { type Fault, filled, inEnglish, type Problem } from "../proof/problems";

/** What can be wrong with a file, in Japanese; in English it is its own key. */
const JAPANESE: Readonly<Record<Fault, string>> = {
  "text that is not UTF-8": "UTF-8 ではないテキストです",
  "{0}: not {1} bytes in lower-case hexadecimal":
    "{0}: 小文字の 16 進数による {1} バイトではありません",
  "{0}: not {1} bytes": "{0}: {1} バイトではありません",
  "more than {0} bytes": "{0} バイトを超えています",
  "{0}: more than {1} bytes": "{0}: {1} バイトを超えています",
  "not base64": "base64 ではありません",
  "base64 that is not in its one form": "base64 が唯一の形式で書かれていません",
  "ends within a number": "数の途中で終わっています",
  "a number longer than it need be": "数が必要以上に長く書かれています",
  "a number of more than {0} bits": "数が {0} ビットを超えています",
  "{0}: a number of more than {1} bits": "{0}: 数が {1} ビットを超えています",
  "{0}: no number of an enum": "{0}: 列挙型の番号ではありません",
  "field {0} is unknown": "フィールド {0} は未知のものです",
  "{0}: given twice, or beside its alternative":
    "{0}: 2 度、または択一の相手と同時に与えられています",
  "{0}: beside its alternative": "{0}: 択一の相手と同時に与えられています",
  "{0}: out of order": "{0}: 順序が違います",
  "{0}: another wire type": "{0}: ワイヤータイプが違います",
  "{0}: cut": "{0}: 途中で切れています",
  "{0}: written though it has its default": "{0}: 既定値なのに書かれています",
  "{0}: is no object": "{0}: オブジェクトではありません",
  "{0}: is missing": "{0}: ありません",
  "{0}: is unknown": "{0}: 未知のものです",
  "{0}: has unknown members": "{0}: 未知のメンバーがあります",
  "{0}: member {1} is unknown": "{0}: メンバー {1} は未知のものです",
  "{0}: is not {1}": "{0}: {1} ではありません",
  "{0}: is neither {1} nor {2}": "{0}: {1} でも {2} でもありません",
  "{0}: not as {1}": "{0}: {1} の形ではありません",
  "{0}: no integer from {1} to {2}": "{0}: {1} から {2} までの整数ではありません",
  "{0}: no list, or an empty one": "{0}: リストではないか、空です",
  "{0}: no list of {1} to {2}": "{0}: {1} 個から {2} 個のリストではありません",
  "{0}: more than {1}": "{0}: {1} を超えています",
  "{0}: more than {1} in all": "{0}: 合計が {1} を超えています",
  "{0}: one stands twice": "{0}: 同じものが 2 度現れます",
  "{0}: is no {1} in its one form": "{0}: 唯一の形式の {1} ではありません",
  "{0}: is no asset": "{0}: 資産の名前ではありません",
  "{0}: is 0": "{0}: 0 です",
  "{0}: is empty": "{0}: 空です",
  "{0}: is too long": "{0}: 長すぎます",
  "{0}: {1}": "{0}: {1}",
  "the layout ends too early": "構造が途中で終わっています",
  "bytes follow the layout": "構造の後に余分なバイトがあります",
  "another version of the layout": "構造の版が違います",
  "a flag that is neither 0 nor 1": "0 でも 1 でもないフラグです",
  "no JSON from line {0}, column {1} on": "{0} 行 {1} 列から JSON ではありません",
  "no JSON that is read here: nested too deep": "入れ子が深すぎる JSON です",
  "more objects and lists than are read here": "オブジェクトとリストが多すぎます",
  "a number of too many digits": "桁数が多すぎる数です",
  "member {0} is given twice": "メンバー {0} が 2 度与えられています",
  "the action is no recovery": "内容が復旧ではありません",
  "the anchor was rejected": "アンカーは却下されています",
  "the transaction above is no anchor": "上の階層のトランザクションはアンカーではありません",
  "the anchored checkpoint is of another city than the anchor says":
    "アンカーされたチェックポイントは、アンカーが示す都市のものではありません",
  "the path has not the length that leads to the root": "経路の長さが根まで届くものではありません",
  "publicKey: without a transaction": "publicKey: トランザクションがないのに与えられています",
  "either a node or a rejection": "ノードと却下のどちらか一方だけが必要です",
  "node: of another transaction or place": "node: 別のトランザクションまたは位置のものです",
  "levels: one with a checkpoint, a certificate or handovers of its own":
    "levels: 独自のチェックポイント・証明書・交代を持つものがあります",
  "handover: neither a checkpoint nor a recovery":
    "handover: チェックポイントでも復旧でもありません",
  "handover: two kinds in one": "handover: 2 種類が同時に与えられています",
  "not in its stored form: key_id must be the author's":
    "保存された形式ではありません。key_id は署名者のものでなければなりません",
  "a public key; give the key file": "公開鍵です。鍵ファイルを選んでください",
  "no key file": "鍵ファイルではありません",
  "no key file: too long": "鍵ファイルではありません（長すぎます）",
  "no key file: an unknown member": "鍵ファイルではありません（未知のメンバーがあります）",
  "another transaction than was asked for": "求めたものとは別のトランザクションです",
  "damaged: the seed does not give this key_id": "破損しています。seed から key_id が得られません",
};

/** A problem in the language of the page. */
export function problemWords(problem: Problem): string {
  return language.value === "ja" ? inJapanese(problem) : inEnglish(problem);
}

function inJapanese(problem: Problem): string {
  return filled(JAPANESE[problem.fault], problem, inJapanese);
}
