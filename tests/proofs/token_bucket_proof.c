// The token bucket: nothing overflows, nobody gets more than rate and burst allow, and whoever
// waits as long as he is told gets what he asked for.
#include "hypervisor/limits/token_bucket_core.h"

#include "tests/proofs/proof.h"

#define LEVEL_MAX ((TokenCount)KUMOI_TOKEN_CAPACITY_MAX * kTokensPerUnit)
#define SPARE_MAX ((TokenCount)KUMOI_TOKEN_RATE_MAX * kTokensPerUnit)
#define COST_MAX ((TokenCount)KUMOI_TOKEN_COST_MAX * kTokensPerUnit)

static TokenCount any_tokens(void) {
    TokenCount any;  // not initialised: the checker's choice
    return any;
}

// Debts pile up only while a machine pauses again and again: room for a million of them.
static int sound(const struct TokenBucket* bucket) {
    return bucket->rate >= 1 && bucket->rate <= KUMOI_TOKEN_RATE_MAX && bucket->full >= 1 &&
           bucket->full <= LEVEL_MAX && bucket->spare >= 1 && bucket->spare <= SPARE_MAX &&
           bucket->level >= -COST_MAX * 1000000 && bucket->level <= bucket->full + bucket->spare;
}

static struct TokenBucket any_bucket(void) {
    const struct TokenBucket bucket = {nondet_u64(), any_tokens(), any_tokens(), any_tokens(),
                                       nondet_i64()};
    __CPROVER_assume(sound(&bucket));
    return bucket;
}

void earned_tokens_do_not_overflow(void) {
    const uint64_t elapsed = nondet_u64();
    const uint64_t rate = nondet_u64() & (2 * KUMOI_TOKEN_RATE_MAX - 1);
    const TokenCount earned = token_earned(elapsed, rate);
    __CPROVER_assert(earned >= 0, "time earns, and never costs");
    __CPROVER_assert((earned >> 105) == 0, "and fits");
}

void a_bucket_gets_at_most_what_was_earned(void) {
    struct TokenBucket bucket = any_bucket();
    const struct TokenBucket before = bucket;
    const TokenCount earned = any_tokens();
    const int overslept = nondet_int();
    __CPROVER_assume(earned >= 0);
    token_bucket_add(&bucket, earned, overslept);
    __CPROVER_assert(sound(&bucket), "a refilled bucket is sound");
    __CPROVER_assert(bucket.level >= before.level, "a refill takes nothing");
    __CPROVER_assert(bucket.level - before.level <= earned, "it gives at most the time's worth");
    __CPROVER_assert(bucket.level - before.level == earned || bucket.level >= bucket.full,
                     "and all of it while there is room");
    __CPROVER_assert(overslept || bucket.level == before.level || bucket.level <= bucket.full,
                     "idle time never fills it above what it holds");
}

// Any clock values, also ones that go back; one token a nanosecond.
void time_is_counted_once(void) {
    struct TokenBucket bucket = any_bucket();
    bucket.rate = 1;
    const struct TokenBucket before = bucket;
    const int64_t now = nondet_i64();
    token_bucket_refill(&bucket, now, 0);
    __CPROVER_assert(bucket.refilled_ns == (now > before.refilled_ns ? now : before.refilled_ns),
                     "the bucket's clock does not go back");
    if (now > before.refilled_ns) {
        const uint64_t elapsed = (uint64_t)now - (uint64_t)before.refilled_ns;
        __CPROVER_assert(bucket.level - before.level <= (TokenCount)elapsed,
                         "a nanosecond earns once");
    } else {
        __CPROVER_assert(bucket.level == before.level, "no time, no tokens");
    }
}

void what_is_ready_may_be_taken(void) {
    struct TokenBucket bucket = any_bucket();
    const TokenCount cost = any_tokens();
    __CPROVER_assume(cost >= 0 && cost <= COST_MAX);
    const TokenCount before = bucket.level;
    if (!token_bucket_ready(&bucket, cost)) {
        __CPROVER_assert(before < cost, "what is there is given");
        __CPROVER_assert(before < bucket.full, "a full bucket gives anything");
        return;
    }
    token_bucket_take(&bucket, cost);
    __CPROVER_assert(sound(&bucket), "a bucket stays sound");
    __CPROVER_assert(bucket.level == before - cost, "what is taken is counted");
    __CPROVER_assert(bucket.level >= 0 || cost > bucket.full,
                     "only what is larger than the bucket is owed");
}

// With smaller numbers, for division is hard on a solver: exact to the nanosecond.
void the_wait_is_long_enough_and_no_longer(void) {
    const uint64_t rate = nondet_u8() & 63;
    const TokenCount missing = nondet_u16() & 4095;
    __CPROVER_assume(rate >= 1);
    const int64_t wait = token_wait_ns(rate, missing);
    __CPROVER_assert(wait >= 0 && wait <= 4095, "a wait is not negative, nor longer than needed");
    const uint32_t ns = (uint32_t)wait;
    __CPROVER_assert(ns * (uint32_t)rate >= (uint32_t)missing, "after the wait it is there");
    __CPROVER_assert(ns == 0 || (ns - 1) * (uint32_t)rate < (uint32_t)missing,
                     "and not a nanosecond before");
}

void a_cost_does_not_overflow(void) {
    const uint64_t units = nondet_u64();
    __CPROVER_assume(units <= KUMOI_TOKEN_CAPACITY_MAX);
    __CPROVER_assert(token_count(units) >= 0 && token_count(units) <= LEVEL_MAX, "a cost fits");
}
