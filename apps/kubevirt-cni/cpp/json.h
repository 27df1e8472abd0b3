/**
 * JSON (RFC 8259) as text that is checked once, whole, and then read in place: no tree, no allocation but for the strings that are
 * asked for. What comes in may be anything: depth is bounded, and UTF-8, escapes and numbers are held to the letter.
 */
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace cni::json {

/** Objects and arrays within each other. */
constexpr int depthMax = 64;

/** The text of one value within a text that has been checked; without white space around it. */
using Value = std::string_view;

struct Checked {
  /** The value, if the text is one. */
  std::optional<Value> value;
  /** Otherwise: where it ceases to be JSON (bytes from the beginning), and why. */
  size_t offset = 0;
  const char* reason = "";
};

/** Looks at the whole text: one value and nothing behind it. */
Checked check(std::string_view text);

bool isObject(Value value);
bool isArray(Value value);
bool isString(Value value);

/** The member of an object; the last one, if its name is there several times, as with most parsers. */
std::optional<Value> member(Value object, std::string_view name);

/** What a string says, without its escapes. Empty if the value is no string. */
std::optional<std::string> text(Value value);

/** A whole number from 0 to a limit, written without point and exponent. Empty if the value is none. */
std::optional<uint64_t> number(Value value, uint64_t max);

/** The members of an object one by one: begin with its text and 0, go on with what `at` has become. @returns false at the end */
bool nextMember(Value object, size_t& at, Value& name, Value& value);

/** A string in quotes. Bytes that are no UTF-8 become U+FFFD, control characters escapes. */
std::string quote(std::string_view text);

}  // namespace cni::json
