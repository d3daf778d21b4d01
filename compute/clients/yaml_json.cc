#include "compute/clients/yaml_json.h"

#include <yaml.h>

#include <charconv>
#include <string>

namespace kumoi::clients {
namespace {

constexpr int kDepthMax = 64;

struct Parser {
    Parser() { yaml_parser_initialize(&parser); }
    ~Parser() { yaml_parser_delete(&parser); }
    Parser(const Parser&) = delete;
    Parser& operator=(const Parser&) = delete;
    yaml_parser_t parser{};
};

struct Document {
    Document() = default;
    ~Document() { yaml_document_delete(&document); }
    Document(const Document&) = delete;
    Document& operator=(const Document&) = delete;
    yaml_document_t document{};
};

std::string text_of(const yaml_node_t& node) {
    return {reinterpret_cast<const char*>(node.data.scalar.value), node.data.scalar.length};
}

template <class Number>
std::optional<Number> number_of(const std::string& text) {
    Number number{};
    const char* begin = text.data() + (text.starts_with('+') ? 1 : 0);
    const char* end = text.data() + text.size();
    const auto read = std::from_chars(begin, end, number);
    return read.ec == std::errc() && read.ptr == end && begin != end ? std::optional(number)
                                                                     : std::nullopt;
}

Json scalar(const yaml_node_t& node) {
    std::string text = text_of(node);
    if (node.data.scalar.style != YAML_PLAIN_SCALAR_STYLE) {
        return Json(std::move(text));
    }
    if (text.empty() || text == "~" || text == "null" || text == "Null" || text == "NULL") {
        return Json();
    }
    if (text == "true" || text == "True" || text == "TRUE") {
        return Json(true);
    }
    if (text == "false" || text == "False" || text == "FALSE") {
        return Json(false);
    }
    if (const auto whole = number_of<int64_t>(text)) {
        return Json(*whole);
    }
    if (text.find_first_of("0123456789") != std::string::npos) {
        if (const auto number = number_of<double>(text)) {
            return Json(*number);
        }
    }
    return Json(std::move(text));
}

class Reader {
public:
    Reader(yaml_document_t& document, size_t nodes_max) : document_(document), left_(nodes_max) {}

    Result<Json> read(yaml_node_t* node, int depth = 0) {
        if (node == nullptr) {
            return Json();
        }
        if (left_ == 0 || depth > kDepthMax) {
            return Error::too_large("The document is too large or nested too deeply");
        }
        --left_;
        switch (node->type) {
            case YAML_SEQUENCE_NODE: return sequence(*node, depth);
            case YAML_MAPPING_NODE: return mapping(*node, depth);
            default: return scalar(*node);
        }
    }

private:
    Result<Json> sequence(const yaml_node_t& node, int depth) {
        Json list = Json::array();
        for (auto* item = node.data.sequence.items.start; item != node.data.sequence.items.top;
             ++item) {
            list.push_back(TRY(read(yaml_document_get_node(&document_, *item), depth + 1)));
        }
        return list;
    }
    Result<Json> mapping(const yaml_node_t& node, int depth) {
        Json object = Json::object();
        for (auto* pair = node.data.mapping.pairs.start; pair != node.data.mapping.pairs.top;
             ++pair) {
            const yaml_node_t* key = yaml_document_get_node(&document_, pair->key);
            if (key == nullptr || key->type != YAML_SCALAR_NODE) {
                return Error::invalid("Line {}: a key that is no text",
                                      key == nullptr ? 0 : key->start_mark.line + 1);
            }
            Json value = TRY(read(yaml_document_get_node(&document_, pair->value), depth + 1));
            object.set(text_of(*key), std::move(value));
        }
        return object;
    }

    yaml_document_t& document_;
    size_t left_;
};

}  // namespace

Result<Json> yaml_to_json(std::string_view text, size_t nodes_max) {
    Parser parser;
    yaml_parser_set_input_string(&parser.parser,
                                 reinterpret_cast<const unsigned char*>(text.data()), text.size());
    Document document;
    if (yaml_parser_load(&parser.parser, &document.document) == 0) {
        return Error::invalid("Not YAML: {} at line {}, column {}",
                              parser.parser.problem == nullptr ? "?" : parser.parser.problem,
                              parser.parser.problem_mark.line + 1,
                              parser.parser.problem_mark.column + 1);
    }
    return Reader(document.document, nodes_max)
        .read(yaml_document_get_root_node(&document.document));
}

}  // namespace kumoi::clients
