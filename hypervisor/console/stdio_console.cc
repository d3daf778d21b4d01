#include "hypervisor/console/stdio_console.h"

#include <array>
#include <cerrno>

#include <unistd.h>

namespace kumoi::hypervisor {

namespace {
constexpr char kEscape = 0x01;  // control-A
constexpr char kQuit = 'x';
}  // namespace

Result<std::unique_ptr<StdioConsole>> StdioConsole::attach(EventLoop& loop, SerialConsole& console,
                                                           std::function<void()> quit) {
    std::unique_ptr<StdioConsole> stdio(new StdioConsole(console, std::move(quit)));
    StdioConsole* self = stdio.get();
    if (isatty(STDIN_FILENO) != 0) {
        termios mode{};
        if (tcgetattr(STDIN_FILENO, &mode) == 0) {
            stdio->before_ = mode;
            cfmakeraw(&mode);
            mode.c_oflag |= OPOST;  // our own log lines on the same terminal stay readable
            tcsetattr(STDIN_FILENO, TCSANOW, &mode);
        }
    }
    // A regular file or /dev/null cannot be watched; then there is nothing to type.
    if (auto watch = loop.watch(STDIN_FILENO, EventLoop::kReadable,
                                [self](uint32_t) { self->read_input(); })) {
        stdio->watch_ = std::move(watch).value();
    }
    stdio->listener_ = console.add_listener([](std::string_view bytes) {
        // A broken standard output must not stop the guest.
        [[maybe_unused]] const auto written =
            write_all(STDOUT_FILENO, std::as_bytes(std::span(bytes)));
    });
    return stdio;
}

StdioConsole::~StdioConsole() {
    if (listener_ != 0) {
        console_.remove_listener(listener_);
    }
    if (before_) {
        tcsetattr(STDIN_FILENO, TCSANOW, &*before_);
    }
}

void StdioConsole::read_input() {
    std::array<char, 256> buffer;
    const ssize_t count = read(STDIN_FILENO, buffer.data(), buffer.size());
    if (count <= 0) {
        if (count == 0 || (errno != EAGAIN && errno != EINTR)) {
            watch_.reset();  // end of input; the guest goes on
        }
        return;
    }
    for (ssize_t i = 0; i < count; ++i) {
        take(buffer[static_cast<size_t>(i)]);
    }
}

void StdioConsole::take(char byte) {
    if (escape_) {
        escape_ = false;
        if (byte == kQuit) {
            quit_();
            return;
        }
        if (byte != kEscape) {
            return;
        }
    } else if (byte == kEscape) {
        escape_ = true;
        return;
    }
    console_.input(std::string_view(&byte, 1));
}

}  // namespace kumoi::hypervisor
