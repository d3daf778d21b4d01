// NovaNode: a compute node as its conductor knows it, over a conductor and a Placement that are
// scripts: what tests of api/nova stand on.
#pragma once

#include <string>
#include <string_view>

#include "api/nova/node_records.h"
#include "api/nova/nova_conductor.h"
#include "api/nova/object_client.h"
#include "api/nova/scheduler_news.h"
#include "base/clock.h"
#include "base/random.h"
#include "tests/support/quiet_rpc.h"

namespace kumoi::test {

struct NovaNode {
    // `stream` names the random numbers. `tells`: schedulers hear of its servers.
    NovaNode(nova::Release release, std::string_view stream, const std::string& host = "cmp1",
             bool tells = false)
        : random(1, stream),
          objects(rpc, nova::ObjectTable::of(release)),
          scheduler(rpc, objects.table(), host, clock, random, tells),
          node(objects, clock, random, {host, host, release},
               [](const compute::ComputeNode&, bool) { return Result<void>(); }) {}

    ManualClock clock{1'767'323'045'000'000'000};
    SeededRandom random;
    QuietRpc rpc;
    RecordedAllocations allocations;
    nova::ObjectClient objects;
    nova::SchedulerNews scheduler;
    nova::NodeRecords node;
    nova::NovaConductor conductor{{objects, allocations, node, scheduler, clock, random}};
};

}  // namespace kumoi::test
