// /v3/services, /v3/endpoints, /v3/regions: read only, the catalog follows the configuration.
#include <algorithm>

#include "api/rest/identity/identity_routes.h"
#include "api/rest/identity/identity_views.h"

namespace kumoi::api::identity {
namespace {

template <class Record>
Result<Record> find(const std::vector<Record>& records, std::string_view kind,
                    const std::string& id) {
    const auto found = std::find_if(records.begin(), records.end(),
                                    [&](const Record& record) { return record.id == id; });
    if (found == records.end()) {
        return Error::not_found("Could not find {}: {}.", kind, id);
    }
    return *found;
}

// The list and the single record of one kind.
template <class Record>
void add_resource(Router& router, const std::string& kind, const std::string& rule,
                  std::function<Result<std::vector<Record>>()> all,
                  Json (*view)(const std::string&, const Record&),
                  std::initializer_list<std::string_view> filters) {
    const std::string pattern = "/v3/" + kind + "s";
    route(router, "GET", pattern,
          [kind, rule, all, view,
           kept = std::vector<std::string_view>(filters)](Request& request) -> Result<Reply> {
              TRY(authorize(request, rule));
              Json::Array items = views(v3_base(request), TRY(all()), view);
              std::erase_if(items, [&](const Json& item) {
                  return std::any_of(kept.begin(), kept.end(), [&](std::string_view filter) {
                      const auto wanted = request.query.first(filter);
                      return wanted && item.string_or(filter) != *wanted;
                  });
              });
              return collection(request, kind + "s", std::move(items), {});
          });
    route(router, "GET", pattern + "/{id}",
          [kind, rule, all, view](Request& request) -> Result<Reply> {
              TRY(authorize(request, rule));
              const Record record = TRY(find(TRY(all()), kind, request.parameter("id")));
              return Reply::json(Json::object({{kind, view(v3_base(request), record)}}));
          });
}

}  // namespace

void add_catalog_routes(Router& router, Identity& identity) {
    using compute::identity::Endpoint;
    using compute::identity::Region;
    using compute::identity::Service;
    add_resource<Service>(router, "service", "identity:list_services",
                          [&] { return identity.catalog().services(); }, service_view,
                          {"name", "type"});
    add_resource<Endpoint>(router, "endpoint", "identity:list_endpoints",
                           [&] { return identity.catalog().endpoints(); }, endpoint_view,
                           {"interface", "service_id", "region_id", "region"});
    add_resource<Region>(router, "region", "identity:list_regions",
                         [&] { return identity.catalog().regions(); }, region_view, {});
}

}  // namespace kumoi::api::identity
