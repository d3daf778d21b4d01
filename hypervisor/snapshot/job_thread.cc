#include "hypervisor/snapshot/job_thread.h"

#include <csignal>

#include <pthread.h>

namespace kumoi::hypervisor {

std::thread start_job_thread(const char* name, std::function<void()> body, ThreadClass kind) {
    sigset_t all;
    sigset_t before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    std::thread thread = start_thread(kind, [name, body = std::move(body)] {
        pthread_setname_np(pthread_self(), name);
        body();
    });
    pthread_sigmask(SIG_SETMASK, &before, nullptr);
    return thread;
}

}  // namespace kumoi::hypervisor
