// Nova's policy rules for every call we answer, with the defaults of its 2026.1 release.
#pragma once

#include "api/rest/policy.h"

namespace kumoi::api {

const Policy& compute_policy();

}  // namespace kumoi::api
