/*
 * ML-DSA-87 verification with a prepared public key (FIPS 204, algorithm 8).
 *
 * Most of a verification is the expansion of the public key: ExpandA, the NTT of t1 and the hash
 * tr depend on the key alone. Here they are computed once and kept, and the rest is run on them.
 *
 * The arithmetic is mldsa-native's, compiled from the sources that the aws-lc-sys crate ships and
 * with AWS-LC's own configuration, so that SHAKE, the assembly and its choice by the CPU at run
 * time are those of the library we link anyway. This file is the only one of ours that knows
 * mldsa-native's internals; docs/design/prepared-keys.md says why it does.
 */

/* Relative to mldsa/common.h, which includes it. */
#define MLD_CONFIG_FILE "../mldsa_native_config.h"
#define MLD_CONFIG_PARAMETER_SET 87
#define MLD_CONFIG_NO_KEYPAIR_API
#define MLD_CONFIG_NO_SIGN_API

#include "mldsa/common.h"

#include "mldsa/ct.c"
#include "mldsa/debug.c"
#include "mldsa/packing.c"
#include "mldsa/poly.c"
#include "mldsa/poly_kl.c"
#include "mldsa/polyvec.c"
#include "mldsa/polyvec_lazy.c"

#if defined(MLD_ARITH_BACKEND_AARCH64)
#include "mldsa/native/aarch64/src/aarch64_zetas.c"
#include "mldsa/native/aarch64/src/polyz_unpack_table.c"
#include "mldsa/native/aarch64/src/rej_uniform_eta_table.c"
#include "mldsa/native/aarch64/src/rej_uniform_table.c"
#elif defined(MLD_ARITH_BACKEND_X86_64_DEFAULT)
#include "mldsa/native/x86_64/src/consts.c"
#include "mldsa/native/x86_64/src/rej_uniform_table.c"
#endif

/* Twin of `Expanded` in prepared.rs, which knows its size and alignment alone. */
typedef struct {
  mld_polymat a;             /* ExpandA(rho), in the order of coefficients the NTT in use has */
  mld_polyveck t1;           /* NTT(t1 * 2^d) */
  uint8_t tr[MLDSA_TRBYTES]; /* H(pk, 64) */
} expanded_key;

_Static_assert(sizeof(expanded_key) == 65600, "prepared.rs allocates this many bytes");
_Static_assert(_Alignof(expanded_key) <= 32, "prepared.rs aligns to this");

/* H of FIPS 204 section 3.7, over up to three parts. */
static void hash(uint8_t *out, size_t out_len, const uint8_t *a, size_t a_len, const uint8_t *b,
                 size_t b_len, const uint8_t *c, size_t c_len) {
  mld_shake256ctx state;
  mld_shake256_init(&state);
  mld_shake256_absorb(&state, a, a_len);
  if (b_len != 0) {
    mld_shake256_absorb(&state, b, b_len);
  }
  if (c_len != 0) {
    mld_shake256_absorb(&state, c, c_len);
  }
  mld_shake256_finalize(&state);
  mld_shake256_squeeze(out, out_len, &state);
  mld_shake256_release(&state);
}

void citychain_mldsa87_expand(expanded_key *key, const uint8_t pk[MLDSA_CRYPTO_PUBLICKEYBYTES]) {
  mld_polyvec_matrix_expand(&key->a, pk);
  for (unsigned int i = 0; i < MLDSA_K; i++) {
    mld_unpack_pk_t1(&key->t1.vec[i], pk, i);
    mld_poly_shiftl(&key->t1.vec[i]);
    mld_poly_ntt(&key->t1.vec[i]);
  }
  hash(key->tr, MLDSA_TRBYTES, pk, MLDSA_CRYPTO_PUBLICKEYBYTES, NULL, 0, NULL, 0);
}

static inline int verify(const expanded_key *key, const uint8_t *prefix, size_t prefix_len,
                         const uint8_t *message, size_t message_len,
                         const uint8_t sig[MLDSA_CRYPTO_BYTES]) {
  mld_polyvecl z;
  mld_polyvecl_unpack_z(&z, sig + MLDSA_SIG_Z_OFFSET);
  if (mld_polyvecl_chknorm(&z, MLDSA_GAMMA1 - MLDSA_BETA)) {
    return 0;
  }
  mld_polyvecl_ntt(&z);

  mld_poly c;
  mld_poly_challenge(&c, sig);
  mld_poly_ntt(&c);

  uint8_t w1[MLDSA_K * MLDSA_POLYW1_PACKEDBYTES];
  for (unsigned int i = 0; i < MLDSA_K; i++) {
    mld_poly w, other;
    mld_polyvecl_pointwise_acc_montgomery(&w, &key->a.vec[i], &z);

    /* w = invNTT(A_i * z - c * t1_i * 2^d) */
    other = key->t1.vec[i];
    mld_poly_pointwise_montgomery(&other, &c);
    mld_poly_sub(&w, &other);
    mld_poly_reduce(&w);
    mld_poly_invntt_tomont(&w);
    mld_poly_caddq(&w);

    /* Row by row this refuses every encoding of hints but the canonical one. */
    if (mld_sig_unpack_hints(&other, sig, i) != 0) {
      return 0;
    }
    mld_poly_use_hint(&w, &other);
    mld_polyw1_pack(w1 + i * MLDSA_POLYW1_PACKEDBYTES, &w);
  }

  uint8_t mu[MLDSA_CRHBYTES];
  uint8_t expected[MLDSA_CTILDEBYTES];
  hash(mu, sizeof(mu), key->tr, MLDSA_TRBYTES, prefix, prefix_len, message, message_len);
  hash(expected, sizeof(expected), mu, sizeof(mu), w1, sizeof(w1), NULL, 0);
  /* Nothing here is secret, so the comparison may stop early. */
  return OPENSSL_memcmp(expected, sig, sizeof(expected)) == 0;
}

/*
 * The assembly leaves the upper halves of the vector registers in use, and what a compiler makes
 * for any x86-64 pays for that after each call: compiled for AVX2 the same code saves a fifth.
 */
#if defined(MLD_ARITH_BACKEND_X86_64_DEFAULT)
__attribute__((target("avx2"), flatten)) static int verify_avx2(
    const expanded_key *key, const uint8_t *prefix, size_t prefix_len, const uint8_t *message,
    size_t message_len, const uint8_t sig[MLDSA_CRYPTO_BYTES]) {
  return verify(key, prefix, prefix_len, message, message_len, sig);
}
#endif

/* Returns 1 if sig is a signature of prefix || message by the key, else 0. */
int citychain_mldsa87_verify(const expanded_key *key, const uint8_t *prefix, size_t prefix_len,
                             const uint8_t *message, size_t message_len,
                             const uint8_t sig[MLDSA_CRYPTO_BYTES]) {
#if defined(MLD_ARITH_BACKEND_X86_64_DEFAULT)
  if (CRYPTO_is_AVX2_capable()) {
    return verify_avx2(key, prefix, prefix_len, message, message_len, sig);
  }
#endif
  return verify(key, prefix, prefix_len, message, message_len, sig);
}
