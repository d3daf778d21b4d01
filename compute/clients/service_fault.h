// What a service says when it refuses: each OpenStack service wraps the reason in JSON of its own
// shape. parse_fault() reads all of them (and survives HTML, nothing, or nonsense); refusal() makes
// the Error, with the code that fits the status. Pure functions.
#pragma once

#include <string>
#include <string_view>

#include "compute/clients/http_types.h"

namespace kumoi::clients {

struct ServiceFault {
    int status = 0;
    std::string type;     // Neutron's class ("IpAddressInUse"), Cinder's key, Keystone's title
    std::string code;     // Placement's error code ("placement.concurrent_update")
    std::string message;  // one line, at most 1000 characters
};

ServiceFault parse_fault(const HttpReply& reply);
ErrorCode error_code_of_status(int status);
// "Neutron refused to <what>: <message> (409 IpAddressInUse)". `fault_class` is Nova's exception.
Error refusal(std::string_view service, std::string_view what, const HttpReply& reply,
              std::string fault_class = {});

}  // namespace kumoi::clients
