#include "api/rest/image/image_patch.h"

#include "api/rest/image/image_attributes.h"

namespace kumoi::api {
namespace {

constexpr size_t kOperationsMax = 1000;

// A JSON pointer (RFC 6901) of one token.
Result<std::string> attribute_of(const std::string& pointer) {
    if (pointer.size() < 2 || pointer.front() != '/') {
        return Error::invalid("Pointer `{}` does not start with \"/\" or names no attribute.",
                              pointer);
    }
    std::string name;
    for (size_t index = 1; index < pointer.size(); ++index) {
        if (pointer[index] == '/') {
            return Error::invalid(
                "Pointer `{}` goes into an attribute; only whole attributes can "
                "be changed.",
                pointer);
        }
        if (pointer[index] != '~') {
            name += pointer[index];
            continue;
        }
        const char escaped = index + 1 < pointer.size() ? pointer[++index] : '\0';
        if (escaped != '0' && escaped != '1') {
            return Error::invalid(
                "Pointer `{}` contains \"~\" not part of a recognized escape "
                "sequence.",
                pointer);
        }
        name += escaped == '0' ? '~' : '/';
    }
    return name;
}

Result<PatchVerb> verb_of(std::string_view word) {
    if (word == "add") {
        return PatchVerb::Add;
    }
    if (word == "replace") {
        return PatchVerb::Replace;
    }
    if (word == "remove") {
        return PatchVerb::Remove;
    }
    return Error::invalid("Unable to find operation '{}': known are add, replace and remove.",
                          word);
}

Result<PatchOperation> parse_v21(const JsonView& item) {
    PatchOperation operation;
    operation.verb = TRY(verb_of(TRY(item.string("op"))));
    operation.attribute = TRY(attribute_of(TRY(item.string("path"))));
    if (operation.verb != PatchVerb::Remove) {
        operation.value = TRY(item.at("value")).json();
    }
    return operation;
}

// {"replace": "/name", "value": "new"}
Result<PatchOperation> parse_v20(const JsonView& item) {
    for (const std::string_view word : {"add", "replace", "remove"}) {
        if (!item.present(word)) {
            continue;
        }
        PatchOperation operation;
        operation.verb = TRY(verb_of(word));
        operation.attribute = TRY(attribute_of(TRY(item.string(word))));
        if (operation.verb != PatchVerb::Remove) {
            operation.value = TRY(item.at("value")).json();
        }
        return operation;
    }
    return item.error("an operation must have one of add, replace and remove");
}

}  // namespace

Result<std::vector<PatchOperation>> parse_image_patch(std::string_view content_type,
                                                      std::string_view body) {
    const bool v21 = content_type == "application/openstack-images-v2.1-json-patch";
    if (!v21 && content_type != "application/openstack-images-v2.0-json-patch") {
        return Error::unsupported("The media type '{}' is not accepted here", content_type)
            .with_hint("send application/openstack-images-v2.1-json-patch")
            .with_fault("UnsupportedMediaType");
    }
    const Json document = TRY(Json::parse(body));
    if (!document.is_array()) {
        return Error::invalid("Request body must be a JSON array of operation objects.");
    }
    if (document.size() > kOperationsMax) {
        return Error::invalid("Request body has {} operations, the limit is {}.", document.size(),
                              kOperationsMax);
    }
    std::vector<PatchOperation> operations;
    for (const JsonView& item : TRY(JsonView(document).as_array())) {
        if (!item.json().is_object()) {
            return Error::invalid("Operations must be JSON objects.");
        }
        operations.push_back(TRY(v21 ? parse_v21(item) : parse_v20(item)));
    }
    return operations;
}

Result<void> apply_image_patch(compute::Image& image, const std::vector<PatchOperation>& operations,
                               const AuthContext& who) {
    for (const PatchOperation& operation : operations) {
        const std::string& name = operation.attribute;
        if (operation.verb == PatchVerb::Remove) {
            TRY(remove_image_attribute(image, name));
            continue;
        }
        const bool missing = !is_base_attribute(name) && !image.properties.contains(name);
        if (operation.verb == PatchVerb::Replace && missing) {
            return Error::conflict("Property {} does not exist.", name);
        }
        TRY(set_image_attribute(image, name, operation.value, AttributeUse::Update, who));
    }
    return {};
}

}  // namespace kumoi::api
