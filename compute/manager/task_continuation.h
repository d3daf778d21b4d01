// How a task goes on that a restart of the node cut short: which verb had set this task_state, and
// what to do now, forward or back. One table for tasks that the journal knows and for those that
// were accepted and not begun. Builds and deletes have their own way (host_recovery.cc).
#pragma once

#include <functional>
#include <optional>
#include <string_view>

#include "compute/manager/verb.h"

namespace kumoi::compute {

struct TaskContinuation {
    VerbInfo info;
    std::function<Result<void>(NodeServices&, const Operation&)> task;
};

// `verb`: the journal's, where it tells two verbs with one task_state apart; may be empty. Nothing
// for a server without a task, or with one that is not a node's.
std::optional<TaskContinuation> continuation_of(const Instance& instance, std::string_view verb);

VerbInfo verb_info(std::string_view verb);  // by its name in the journal

}  // namespace kumoi::compute
