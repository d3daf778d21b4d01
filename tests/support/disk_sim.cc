#include "tests/support/disk_sim.h"

#include <algorithm>
#include <cerrno>

namespace kumoi::test {

int SimFile::perform(q::IoCall& call) {
    if (fault) {
        if (const int failed = fault(call); failed < 0) {
            return failed;
        }
    }
    switch (call.kind) {
        case q::IoCall::Kind::Read: {
            uint64_t at = call.offset;
            for (const iovec& vector : call.vectors) {
                auto* to = static_cast<uint8_t*>(vector.iov_base);
                for (uint64_t i = 0; i < vector.iov_len; ++i, ++at) {
                    to[i] = at < now.size() ? now[at] : 0;
                }
            }
            return 0;
        }
        case q::IoCall::Kind::Write: {
            Change change{call.offset, {}, false};
            for (const iovec& vector : call.vectors) {
                const auto* from = static_cast<const uint8_t*>(vector.iov_base);
                change.bytes.insert(change.bytes.end(), from, from + vector.iov_len);
            }
            apply(now, change, nullptr, 100);
            size = std::max<uint64_t>(size, now.size());
            unsynced.push_back(std::move(change));
            return 0;
        }
        case q::IoCall::Kind::PunchHole: {
            Change change{call.offset, std::vector<uint8_t>(call.size), false};
            if (call.offset + call.size > now.size()) {
                change.bytes.resize(call.offset < now.size() ? now.size() - call.offset : 0);
            }
            apply(now, change, nullptr, 100);
            unsynced.push_back(std::move(change));
            return 0;
        }
        case q::IoCall::Kind::Truncate: {
            Change change{call.offset, {}, true};
            apply(now, change, nullptr, 100);
            unsynced.push_back(std::move(change));
            return 0;
        }
        case q::IoCall::Kind::Sync:
            durable = now;
            unsynced.clear();
            return 0;
    }
    return -EINVAL;
}

void SimFile::apply(std::vector<uint8_t>& to, const Change& change, Random* random,
                    uint64_t survival_percent) const {
    if (change.truncate) {
        if (random == nullptr || random->below(100) < survival_percent) {
            to.resize(change.offset);
        }
        return;
    }
    for (uint64_t done = 0; done < change.bytes.size();) {
        const uint64_t at = change.offset + done;
        const uint64_t part =
            std::min<uint64_t>(change.bytes.size() - done, kSector - at % kSector);
        if (random == nullptr || random->below(100) < survival_percent) {
            if (to.size() < at + part) {
                to.resize(at + part);
            }
            std::memcpy(&to[at], &change.bytes[done], part);
        }
        done += part;
    }
}

std::vector<uint8_t> SimFile::power_cut(Random& random,
                                        const std::vector<const q::IoCall*>& in_flight) const {
    constexpr uint64_t kSurvival[] = {0, 10, 50, 90, 100};
    const uint64_t percent = kSurvival[random.below(5)];
    std::vector<uint8_t> left = durable;
    for (const Change& change : unsynced) {
        apply(left, change, &random, percent);
    }
    for (const q::IoCall* call : in_flight) {
        if (call->kind == q::IoCall::Kind::Write && call->file == this) {
            Change change{call->offset, {}, false};
            for (const iovec& vector : call->vectors) {
                const auto* from = static_cast<const uint8_t*>(vector.iov_base);
                change.bytes.insert(change.bytes.end(), from, from + vector.iov_len);
            }
            apply(left, change, &random, percent);
        }
    }
    return left;
}

bool SimPort::start(q::IoCall& call) {
    if (random_ == nullptr) {
        call.result = static_cast<SimFile*>(call.file)->perform(call);
        ++steps_;
        return false;
    }
    started_.push_back(&call);
    return true;
}

void SimPort::post(std::coroutine_handle<> handle) {
    if (!dead_) {
        posted_.push_back(handle);
    }
}

bool SimPort::step() {
    const uint64_t choices = started_.size() + (posted_.empty() ? 0 : 1);
    if (dead_ || choices == 0) {
        return false;
    }
    ++steps_;
    const uint64_t choice = random_ == nullptr ? choices - 1 : random_->below(choices);
    if (choice == started_.size()) {
        const auto handle = posted_.front();
        posted_.pop_front();
        handle.resume();
        return true;
    }
    q::IoCall* call = started_[choice];
    started_.erase(started_.begin() + static_cast<std::ptrdiff_t>(choice));
    call->result = static_cast<SimFile*>(call->file)->perform(*call);
    q::io_complete(*call);
    return true;
}

std::vector<const q::IoCall*> SimPort::in_flight() const {
    return {started_.begin(), started_.end()};
}

}  // namespace kumoi::test
