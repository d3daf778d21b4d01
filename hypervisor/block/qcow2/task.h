// Task<T>: a coroutine of the qcow2 engine, one step of one disk request.
//
// Why coroutines here. The same engine must run in three ways: asynchronously on a queue's io_uring
// (a guest's disk), straight through with blocking calls (kumoi-img, opening, closing), and under a
// simulated disk that completes calls in any order and cuts the power at any of them. Written as
// state machines the allocation and commit paths could not be read, nor shown to be right; as
// coroutines over IoPort (io_port.h) they are one text for all three.
//
// A task starts when it is awaited and runs on one thread: whatever wakes it does so through its
// IoPort. run_inline() is for ports that complete every call at once. Nothing throws.
#pragma once

#include <coroutine>
#include <cstddef>
#include <cstdlib>
#include <exception>
#include <optional>
#include <utility>

#include "base/assert.h"
#include "hypervisor/block/qcow2/frame_pool.h"

namespace kumoi::hypervisor::qcow2 {

template <class T>
class [[nodiscard]] Task {
public:
    struct promise_type;
    using Handle = std::coroutine_handle<promise_type>;

    struct Final {
        bool await_ready() const noexcept { return false; }
        std::coroutine_handle<> await_suspend(Handle handle) const noexcept {
            const auto next = handle.promise().continuation;
            return next ? next : std::noop_coroutine();
        }
        void await_resume() const noexcept {}
    };
    struct promise_type {
        std::coroutine_handle<> continuation;
        std::optional<T> value;

        static void* operator new(size_t size) { return frame_allocate(size); }
        static void operator delete(void* memory, size_t size) { frame_free(memory, size); }
        Task get_return_object() { return Task(Handle::from_promise(*this)); }
        std::suspend_always initial_suspend() const noexcept { return {}; }
        Final final_suspend() const noexcept { return {}; }
        void return_value(T result) { value.emplace(std::move(result)); }
        void unhandled_exception() const noexcept { std::terminate(); }
    };

    explicit Task(Handle handle) : handle_(handle) {}
    Task(Task&& other) noexcept : handle_(std::exchange(other.handle_, nullptr)) {}
    Task& operator=(Task&&) = delete;
    ~Task() {
        if (handle_) {
            handle_.destroy();
        }
    }

    // Runs to the first call that has to wait. Then done() tells whether that was the end.
    void start() { handle_.resume(); }
    bool done() const { return handle_.done(); }
    T take() { return std::move(*handle_.promise().value); }

    // co_await: runs the child at once; only if it has to wait is the parent suspended. So a loop
    // over calls that complete at once needs no stack.
    bool await_ready() const noexcept { return false; }
    bool await_suspend(std::coroutine_handle<> parent) {
        handle_.resume();
        if (handle_.done()) {
            return false;
        }
        handle_.promise().continuation = parent;
        return true;
    }
    T await_resume() { return std::move(*handle_.promise().value); }

private:
    Handle handle_;
};

template <class T>
T run_inline(Task<T> task) {
    task.start();
    KUMOI_ASSERT(task.done());
    return task.take();
}

}  // namespace kumoi::hypervisor::qcow2
