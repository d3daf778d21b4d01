// What a node makes of a server that it finds in the middle of something at its start, by Nova's
// rules (nova/compute/manager.py, _init_instance): a build or rebuild that was cut short ends in
// ERROR with the reason, an image that was being made is given up, power verbs, deletes and
// confirmed requests are done again. What the journal knows besides makes more than Nova can: an
// unfinished image does not stay behind, a shelve that has its image is finished.
#pragma once

#include <optional>
#include <string_view>

#include "compute/manager/task_continuation.h"
#include "compute/manager/verb.h"

namespace kumoi::compute {

// The work that ends the server's task_state; none: nothing to do. `verb`: as the journal names
// what was under way, empty when nothing had begun.
std::optional<TaskContinuation> nova_continuation_of(const Instance& instance,
                                                     std::string_view verb);

// Builds that were cut short, also those of which the journal knows nothing.
bool is_cut_short_build(const Instance& instance);
Error node_was_restarted(std::string_view what);

// Leaves the server in ERROR, free for the next request, and says why.
void fail_server(NodeServices& services, const std::string& uuid, const Error& reason);

// The devices of every server exist again; a server for which they cannot be made is in ERROR.
// Returns false then.
bool plug_again(NodeServices& services, Instance& instance);

}  // namespace kumoi::compute
