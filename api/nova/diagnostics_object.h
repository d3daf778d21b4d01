// Nova's Diagnostics object (nova/objects/diagnostics.py 1.0) from the diagnostics of our driver.
#pragma once

#include "api/nova/nova_object.h"

namespace kumoi::nova {

// `values` has the layout of GET /servers/{id}/diagnostics, microversion 2.48. `driver` must be one
// of Nova's own names, so a kumoi guest says "libvirt" there, and "kumoi" as its hypervisor.
Json diagnostics_object(const ObjectTable& table, const Json& values);

}  // namespace kumoi::nova
