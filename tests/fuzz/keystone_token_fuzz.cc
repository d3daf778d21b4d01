// Any JSON as Keystone's token, as a context's service catalog, and as the refusal of a service.
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "compute/clients/keystone_session.h"
#include "compute/clients/service_client.h"
#include "compute/clients/service_fault.h"

using namespace kumoi;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    const std::string text(reinterpret_cast<const char*>(data), size);
    const auto fault = clients::parse_fault({.status = 409, .headers = {}, .body = text});
    if (fault.message.size() > 1003 || fault.message.find('\n') != std::string::npos) {
        std::abort();
    }
    const auto json = Json::parse(text);
    if (!json.ok()) {
        return 0;
    }
    if (const auto token = clients::KeystoneToken::parse(*json, "id"); token.ok()) {
        (void)token->catalog.find("network", "", {"internal", "public"}, "");
        (void)token->catalog.type_names();
    }
    if (const auto catalog = clients::ServiceCatalog::parse(*json); catalog.ok()) {
        (void)catalog->find("block-storage", "cinderv3", {"public"}, "RegionOne");
    }
    (void)clients::caller_from_wire(&*json, "", "");
    return 0;
}
