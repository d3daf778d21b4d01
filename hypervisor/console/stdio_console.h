// StdioConsole: the serial console on this process's terminal, in raw mode: what is typed goes to
// the guest, control-A x ends, control-A control-A sends a control-A. The terminal is put back at
// the end. Loop thread only.
#pragma once

#include <functional>
#include <memory>
#include <optional>

#include <termios.h>

#include "base/event_loop.h"
#include "hypervisor/console/serial_console.h"

namespace kumoi::hypervisor {

class StdioConsole {
public:
    static Result<std::unique_ptr<StdioConsole>> attach(EventLoop& loop, SerialConsole& console,
                                                        std::function<void()> quit);
    ~StdioConsole();
    StdioConsole(const StdioConsole&) = delete;
    StdioConsole& operator=(const StdioConsole&) = delete;

private:
    StdioConsole(SerialConsole& console, std::function<void()> quit)
        : console_(console), quit_(std::move(quit)) {}
    void read_input();
    void take(char byte);

    SerialConsole& console_;
    std::function<void()> quit_;
    std::optional<termios> before_;
    bool escape_ = false;
    EventLoop::Watch watch_;
    SerialConsole::ListenerId listener_ = 0;
};

}  // namespace kumoi::hypervisor
