#include "hypervisor/virtio/io_thread.h"

#include <pthread.h>

#include <csignal>
#include <future>
#include <memory>

#include "hypervisor/sandbox/thread_class.h"
#include "hypervisor/vcpu/affinity.h"

namespace kumoi::hypervisor {

IoThread::IoThread(std::string name)
    : name_(name.substr(0, 15)),
      loop_(clock_),
      thread_(start_thread(ThreadClass::Io, [this] { run(); })) {}

IoThread::~IoThread() {
    loop_.stop();
    thread_.join();
}

void IoThread::call(const std::function<void()>& function) {
    // Shared: set_value() may still be on its last lines when the waiter is gone.
    const auto done = std::make_shared<std::promise<void>>();
    loop_.post([&function, done] {
        function();
        done->set_value();
    });
    done->get_future().wait();
}

void IoThread::run() {
    sigset_t all;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, nullptr);
    use_io_affinity();  // a vCPU's thread may have made us, and we inherit its own
    pthread_setname_np(pthread_self(), name_.c_str());  // at most 15 characters
    loop_.run();
}

}  // namespace kumoi::hypervisor
