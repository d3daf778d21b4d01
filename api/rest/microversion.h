// Microversion negotiation of the Compute API (2.1 to 2.96): which version a request asked for,
// told back on every answer. Nova's rules: header OpenStack-API-Version "compute 2.N" (from 2.27 on
// the one that counts) or X-OpenStack-Nova-API-Version "2.N", "latest" for the newest, absent means
// 2.1.
#pragma once

#include <compare>
#include <string>

#include "api/http/headers.h"
#include "api/http/router.h"
#include "base/result.h"

namespace kumoi::api {

struct Microversion {
    int minor = 1;  // the major one is always 2

    std::string text() const;
    auto operator<=>(const Microversion&) const = default;
};

constexpr Microversion kMicroversionMin{1};
constexpr Microversion kMicroversionMax{96};

// InvalidArgument for nonsense, fault NotAcceptable (406) for a version we do not have.
Result<Microversion> requested_microversion(const HeaderMap& headers);

// Attaches the Microversion to the request; adds the version headers and Vary to the answer.
Middleware negotiate_microversion();

// Of a request behind the middleware; 2.1 when it has none.
Microversion microversion_of(const Request& request);

}  // namespace kumoi::api
