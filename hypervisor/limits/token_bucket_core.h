// The arithmetic of one token bucket, in the common subset of C11 and C++ so that tests/proofs can
// hand exactly these functions to a bounded model checker.
//
// Tokens are counted in unit-nanoseconds (a billion of them is one byte or one request), so a
// refill is one exact multiplication: no rounding is ever lost, whatever the rate and however often
// it is asked. Nothing here allocates, waits, or reads a clock.
#pragma once

#include <stdint.h>

#ifdef __cplusplus
namespace kumoi::hypervisor {
#endif

__extension__ typedef __int128 TokenCount;

enum { kTokensPerUnit = 1000000000 };

// Larger values are refused by whoever makes a bucket; within them nothing overflows.
#define KUMOI_TOKEN_RATE_MAX ((uint64_t)1 << 40)      // units a second
#define KUMOI_TOKEN_CAPACITY_MAX ((uint64_t)1 << 50)  // units
#define KUMOI_TOKEN_COST_MAX ((uint64_t)1 << 40)      // units taken at once

static inline TokenCount token_count(uint64_t units) {
    return (TokenCount)units * kTokensPerUnit;
}

struct TokenBucket {
    uint64_t rate;     // units a second, so tokens a nanosecond; not 0
    TokenCount full;   // what it holds; not 0
    TokenCount spare;  // what it may hold above that while somebody waits: a second's worth
    TokenCount level;  // what may be taken now; negative after a request larger than the bucket
    int64_t refilled_ns;
};

static inline void token_bucket_fill(struct TokenBucket* bucket, uint64_t rate, uint64_t capacity,
                                     int64_t now_ns) {
    bucket->rate = rate;
    bucket->full = token_count(capacity);
    bucket->spare = token_count(rate);
    bucket->level = bucket->full;
    bucket->refilled_ns = now_ns;
}

static inline TokenCount token_earned(uint64_t elapsed_ns, uint64_t rate) {
    return (TokenCount)elapsed_ns * (TokenCount)rate;
}

// `overslept`: a request that waits asks again, later than it was told to. That time was not idle,
// so its tokens may exceed what the bucket holds and are not lost.
static inline void token_bucket_add(struct TokenBucket* bucket, TokenCount earned, int overslept) {
    const TokenCount limit = overslept ? bucket->full + bucket->spare : bucket->full;
    if (bucket->level >= limit) {
        return;
    }
    bucket->level = earned < limit - bucket->level ? bucket->level + earned : limit;
}

static inline void token_bucket_refill(struct TokenBucket* bucket, int64_t now_ns, int overslept) {
    if (now_ns <= bucket->refilled_ns) {
        return;  // a clock does not go back; were it to, time is not counted twice
    }
    const uint64_t elapsed = (uint64_t)now_ns - (uint64_t)bucket->refilled_ns;
    token_bucket_add(bucket, token_earned(elapsed, bucket->rate), overslept);
    bucket->refilled_ns = now_ns;
}

// What must be there before `cost` tokens may be taken: all of them, or a full bucket.
static inline TokenCount token_bucket_needed(const struct TokenBucket* bucket, TokenCount cost) {
    return cost < bucket->full ? cost : bucket->full;
}

static inline int token_bucket_ready(const struct TokenBucket* bucket, TokenCount cost) {
    return bucket->level >= token_bucket_needed(bucket, cost);
}

static inline void token_bucket_take(struct TokenBucket* bucket, TokenCount cost) {
    bucket->level -= cost;
}

// Nanoseconds until `missing` tokens have come, rounded up.
static inline int64_t token_wait_ns(uint64_t rate, TokenCount missing) {
    if (missing <= 0) {
        return 0;
    }
    const TokenCount wait = (missing + (TokenCount)rate - 1) / (TokenCount)rate;
    return wait > (TokenCount)INT64_MAX ? INT64_MAX : (int64_t)wait;
}

// From the last refill until it is ready; 0 when it is.
static inline int64_t token_bucket_wait_ns(const struct TokenBucket* bucket, TokenCount cost) {
    return token_wait_ns(bucket->rate, token_bucket_needed(bucket, cost) - bucket->level);
}

#ifdef __cplusplus
}  // namespace kumoi::hypervisor
#endif
