// UnsettledOperations: operations that ended without knowing what the records say, because whoever
// keeps them (nova-conductor, over a broker) did not answer. Their journal entries stay open, and
// the manager goes on with them, as after a restart, once the records answer again: so nothing is
// left in the middle of a task by an outage. Also: what the journal keeps of a request's arguments.
//
// Whoever talks to the records notes a doubt; run_verb() looks whether its own thread had one.
#pragma once

#include <cstdint>
#include <map>
#include <mutex>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "compute/objects.h"

namespace kumoi::compute {

class UnsettledOperations {
public:
    // Of the calling thread, which runs one operation at a time.
    static void note_doubt();
    static void forget_doubts();
    static bool is_in_doubt();
    // Not the records but the other host has to answer first: however often that takes.
    static void note_undecided();

    // An operation within another one's (a standalone cloud is one process) has doubts of its own.
    class Scope {
    public:
        Scope();
        ~Scope();
        Scope(const Scope&) = delete;
        Scope& operator=(const Scope&) = delete;

    private:
        const bool doubt_, undecided_;
    };

    // False: it was looked at often enough, and is to end as it is.
    bool add(uint64_t journal_id);
    std::set<uint64_t> take();
    void forget(uint64_t journal_id);  // it has ended

private:
    std::mutex mutex_;
    std::set<uint64_t> ids_;
    std::map<uint64_t, int> attempts_;
};

// What an operation leaves behind when this part of its clean-up failed: a warning, and it stays
// open, so that the rest is cleaned up later.
void undo_or_retry(const Result<void>& result, std::string_view what);

// A step of the journal that holds what a request said beside the record; secrets and files are
// not kept.
std::string step_of(const TaskArguments& arguments);
// From the newest such step; empty when there is none.
TaskArguments arguments_from(const std::vector<std::string>& steps);

}  // namespace kumoi::compute
