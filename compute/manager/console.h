// Where the console of a server is on its node, as Nova's ConsoleVNC and ConsoleSerial: what the
// proxy connects to. A value.
#pragma once

#include <string>

namespace kumoi::compute {

struct ConsoleConnection {
    std::string host;    // the node
    std::string socket;  // path of a unix socket there: RFB, or the serial port's bytes
};

}  // namespace kumoi::compute
