// How a server looks in answers, at each microversion: the short form, the full form, and its text
// kept with the record, so that long lists are copied and not rendered again. Any thread.
#pragma once

#include <string>

#include "api/rest/compute/compute_api.h"

namespace kumoi::api {

// Nova's status from vm_state and task_state: ACTIVE, BUILD, SHUTOFF ...
std::string server_status(const compute::Instance& instance);
// sha224 of project and host: tells two hosts apart without naming them.
std::string host_id(const compute::Instance& instance);
Json server_addresses(const compute::Instance& instance);
// "2026-11-23T09:38:48.000000", null when it never happened.
Json naive_time(int64_t wall_ns);

Json server_summary(const Call& call, const compute::Instance& instance);
enum class ServerForm {
    Show,    // everything
    Update,  // answers of PUT: below 2.75 without the extended attributes
    List,    // /servers/detail: everything but the server groups
};
Json server_view(const Call& call, const compute::Instance& instance, ServerForm form);
// server_view(List) as JSON text.
std::shared_ptr<const std::string> server_list_text(const Call& call,
                                                    const compute::InstancePtr& stored);

}  // namespace kumoi::api
