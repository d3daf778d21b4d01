// The part of ReportClient that reads and writes allocations.
#include <algorithm>

#include "base/log.h"
#include "compute/clients/report_client.h"

namespace kumoi::clients {
namespace {

constexpr RetryPolicy kWritePolicy{.attempts_max = 4, .first_wait_ms = 250, .wait_max_ms = 2'000};

// Another write touched the same providers or inventory; this consumer itself is unchanged.
bool may_repeat(const Error& error) {
    return error.code == ErrorCode::Conflict &&
           error.message.find("consumer generation conflict") == std::string::npos;
}

}  // namespace

Result<void> ReportClient::repeat_write(const std::function<Result<void>()>& write) {
    for (int attempt = 1;; ++attempt) {
        Result<void> outcome = write();
        if (outcome.ok() || attempt == kWritePolicy.attempts_max || !may_repeat(outcome.error())) {
            return outcome;
        }
        parts_.wait(retry_wait_ns(kWritePolicy, attempt + 1, parts_.random));
    }
}

Result<void> ReportClient::put_allocations(const Caller& caller, const std::string& consumer,
                                           const ConsumerAllocations& allocations) {
    return repeat_write([&] { return placement_.put_allocations(caller, consumer, allocations); });
}

Result<bool> ReportClient::move_allocations(const Caller& caller, const std::string& source,
                                            const std::string& target) {
    bool had_any = true;
    TRY(repeat_write([&]() -> Result<void> {
        ConsumerAllocations giver = TRY(placement_.allocations(caller, source));
        if (giver.empty()) {
            had_any = false;
            return {};
        }
        ConsumerAllocations taker = TRY(placement_.allocations(caller, target));
        if (!taker.empty() && taker.by_provider != giver.by_provider) {
            log_info("clients", "allocations are overwritten by those that move back",
                     {{"from", source}, {"to", target}});
        }
        taker.by_provider = std::move(giver.by_provider);
        giver.by_provider.clear();
        taker.project_id = giver.project_id;
        taker.user_id = giver.user_id;
        return placement_.post_allocations(caller, {{source, giver}, {target, taker}});
    }));
    return had_any;
}

Result<void> ReportClient::remove_provider_from(const Caller& caller, const std::string& consumer,
                                                const std::string& root_uuid) {
    return repeat_write([&]() -> Result<void> {
        ConsumerAllocations left = TRY(placement_.allocations(caller, consumer));
        if (left.empty()) {
            return {};
        }
        size_t removed = left.by_provider.erase(root_uuid);
        for (const ResourceProvider& provider : TRY(placement_.tree_of(caller, root_uuid))) {
            removed += left.by_provider.erase(provider.uuid);
        }
        return removed == 0 ? Result<void>() : placement_.put_allocations(caller, consumer, left);
    });
}

Result<void> ReportClient::delete_allocations(const Caller& caller, const std::string& consumer,
                                              bool force) {
    if (force) {
        TRY(placement_.delete_allocations(caller, consumer));
        return {};
    }
    ConsumerAllocations left = TRY(placement_.allocations(caller, consumer));
    if (left.empty()) {
        return {};
    }
    left.by_provider.clear();
    auto outcome = repeat_write([&] { return placement_.put_allocations(caller, consumer, left); });
    if (!outcome.ok() && outcome.error().code == ErrorCode::Conflict) {
        return std::move(outcome).error().with_fault("AllocationDeleteFailed");
    }
    return outcome;
}

}  // namespace kumoi::clients
