// DirtyLog: which pages of a guest's memory file were written, by whomever, since they were copied.
//
//     log.start();                         // then every page counts as written
//     for each run of pages to send:
//         log.rearm(run.first, run.count); // clear, ...
//         send(run);                       // ... then copy: a later write is told of again
//     log.collect(next_round);             // what was written meanwhile
//     ... stop the vCPUs and the devices; log.collect(last_round); send it; log.stop();
//
// A page that nobody reads (it is known to be zero, or free) must be rearmed all the same, or it is
// told of for ever. rearm() promises nothing about pages that were written and not collected before
// it: it is the reading behind it that must see them.
//
// start() and stop() on the control thread; collect() and rearm() on any one thread at a time,
// which may be another one.
#pragma once

#include <cstdint>
#include <string_view>

#include "base/result.h"
#include "hypervisor/memory/page_bitmap.h"

namespace kumoi::hypervisor {

class DirtyLog {
public:
    virtual ~DirtyLog() = default;
    // "manual", "bitmap" or "ring".
    virtual std::string_view kind() const = 0;
    virtual uint64_t pages() const = 0;  // of the memory file: the size of every PageBitmap here

    // From here on every write to guest memory is seen: by vCPUs and by ourselves.
    virtual Result<void> start() = 0;
    // Adds what was written since start(), or since it was last collected or rearmed.
    virtual Result<void> collect(PageBitmap& into) = 0;
    // Right before these pages are read.
    virtual Result<void> rearm(uint64_t first_page, uint64_t count) = 0;
    virtual void stop() = 0;
    virtual bool started() const = 0;
};

}  // namespace kumoi::hypervisor
