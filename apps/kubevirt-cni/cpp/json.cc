#include "json.h"

namespace cni::json {
namespace {

/** Bytes of the UTF-8 sequence that begins here, or 0 if none does (RFC 3629 section 4). */
size_t sequenceBytes(std::string_view text, size_t at) {
  const auto byte = [&](size_t i) { return i < text.size() ? static_cast<uint8_t>(text[i]) : 0; };
  const auto continues = [&](size_t i, int low = 0x80, int high = 0xbf) { return byte(i) >= low && byte(i) <= high; };
  const int first = byte(at);
  if (first < 0x80) return 1;
  if (first < 0xc2) return 0;
  if (first < 0xe0) return continues(at + 1) ? 2 : 0;
  if (first < 0xf0) {
    const int low = first == 0xe0 ? 0xa0 : 0x80;
    const int high = first == 0xed ? 0x9f : 0xbf;
    return continues(at + 1, low, high) && continues(at + 2) ? 3 : 0;
  }
  if (first > 0xf4) return 0;
  const int low = first == 0xf0 ? 0x90 : 0x80;
  const int high = first == 0xf4 ? 0x8f : 0xbf;
  return continues(at + 1, low, high) && continues(at + 2) && continues(at + 3) ? 4 : 0;
}

int hexDigit(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

/** The four digits behind \u, or -1. */
int unit(std::string_view text, size_t at) {
  if (at + 4 > text.size()) return -1;
  int value = 0;
  for (size_t i = 0; i < 4; i++) {
    const int digit = hexDigit(text[at + i]);
    if (digit < 0) return -1;
    value = value << 4 | digit;
  }
  return value;
}

bool isDigit(char c) { return c >= '0' && c <= '9'; }

class Checker {
 public:
  explicit Checker(std::string_view text) : text_(text) {}

  Checked whole() {
    skipSpace();
    const size_t begin = at_;
    if (!value(0)) return failed();
    const size_t end = at_;
    skipSpace();
    if (at_ < text_.size()) {
      fail("something follows the value");
      return failed();
    }
    Checked result;
    result.value = text_.substr(begin, end - begin);
    return result;
  }

 private:
  Checked failed() const {
    Checked result;
    result.offset = at_;
    result.reason = reason_;
    return result;
  }

  bool fail(const char* reason) {
    reason_ = reason;
    return false;
  }

  char peek() const { return at_ < text_.size() ? text_[at_] : '\0'; }

  bool take(char c) {
    if (at_ >= text_.size() || text_[at_] != c) return false;
    at_++;
    return true;
  }

  void skipSpace() {
    while (at_ < text_.size() && (text_[at_] == ' ' || text_[at_] == '\t' || text_[at_] == '\n' || text_[at_] == '\r')) at_++;
  }

  bool word(std::string_view word) {
    if (text_.substr(at_, word.size()) != word) return fail("no JSON value");
    at_ += word.size();
    return true;
  }

  bool value(int depth) {
    if (at_ >= text_.size()) return fail("it ends too early");
    switch (text_[at_]) {
      case '{':
        return depth < depthMax ? object(depth + 1) : fail("too deep");
      case '[':
        return depth < depthMax ? array(depth + 1) : fail("too deep");
      case '"':
        return string();
      case 't':
        return word("true");
      case 'f':
        return word("false");
      case 'n':
        return word("null");
      default:
        return number();
    }
  }

  bool object(int depth) {
    at_++;
    skipSpace();
    if (take('}')) return true;
    for (;;) {
      if (peek() != '"') return fail("a name in quotes is missing");
      if (!string()) return false;
      skipSpace();
      if (!take(':')) return fail("a colon is missing");
      skipSpace();
      if (!value(depth)) return false;
      skipSpace();
      if (take('}')) return true;
      if (!take(',')) return fail("a comma or a closing brace is missing");
      skipSpace();
    }
  }

  bool array(int depth) {
    at_++;
    skipSpace();
    if (take(']')) return true;
    for (;;) {
      if (!value(depth)) return false;
      skipSpace();
      if (take(']')) return true;
      if (!take(',')) return fail("a comma or a closing bracket is missing");
      skipSpace();
    }
  }

  bool string() {
    at_++;
    while (at_ < text_.size()) {
      const char c = text_[at_];
      if (c == '"') {
        at_++;
        return true;
      }
      if (static_cast<uint8_t>(c) < 0x20) return fail("a control character in a string");
      if (c == '\\') {
        if (!escape()) return false;
        continue;
      }
      const size_t bytes = sequenceBytes(text_, at_);
      if (bytes == 0) return fail("no UTF-8");
      at_ += bytes;
    }
    return fail("a string does not end");
  }

  // Half a surrogate pair is JSON (RFC 8259 section 8.2), though nothing that one can work with; text() sees to that.
  bool escape() {
    at_++;
    if (take('u')) {
      if (unit(text_, at_) < 0) return fail("no such escape");
      at_ += 4;
      return true;
    }
    if (at_ >= text_.size() || std::string_view("\"\\/bfnrt").find(text_[at_]) == std::string_view::npos) {
      return fail("no such escape");
    }
    at_++;
    return true;
  }

  bool number() {
    const size_t begin = at_;
    take('-');
    if (!take('0') && !digits()) {
      at_ = begin;
      return fail("no JSON value");
    }
    if (take('.') && !digits()) return fail("no digit behind the point");
    if (take('e') || take('E')) {
      if (!take('+')) take('-');
      if (!digits()) return fail("no digit in the exponent");
    }
    return true;
  }

  bool digits() {
    const size_t begin = at_;
    while (at_ < text_.size() && isDigit(text_[at_])) at_++;
    return at_ > begin;
  }

  std::string_view text_;
  size_t at_ = 0;
  const char* reason_ = "";
};

// What follows reads text that Checker has seen: it needs to know where things end, not whether they are right.

size_t pastSpace(Value text, size_t at) {
  while (at < text.size() && (text[at] == ' ' || text[at] == '\t' || text[at] == '\n' || text[at] == '\r')) at++;
  return at;
}

size_t pastString(Value text, size_t at) {
  for (at++; at < text.size() && text[at] != '"'; at++) {
    if (text[at] == '\\') at++;
  }
  return at + 1;
}

size_t pastValue(Value text, size_t at) {
  int depth = 0;
  while (at < text.size()) {
    const char c = text[at];
    if (c == '"') {
      at = pastString(text, at);
    } else if (c == '{' || c == '[') {
      depth++;
      at++;
    } else if (c == '}' || c == ']') {
      if (depth == 0) return at;
      depth--;
      at++;
    } else if (depth == 0) {
      const size_t end = text.find_first_of(",]} \t\r\n", at);
      return end == Value::npos ? text.size() : end;
    } else {
      at++;
      continue;
    }
    if (depth == 0) return at;
  }
  return at;
}

void appendUtf8(std::string& out, uint32_t point) {
  if (point < 0x80) {
    out += static_cast<char>(point);
  } else if (point < 0x800) {
    out += static_cast<char>(0xc0 | point >> 6);
    out += static_cast<char>(0x80 | (point & 0x3f));
  } else if (point < 0x10000) {
    out += static_cast<char>(0xe0 | point >> 12);
    out += static_cast<char>(0x80 | (point >> 6 & 0x3f));
    out += static_cast<char>(0x80 | (point & 0x3f));
  } else {
    out += static_cast<char>(0xf0 | point >> 18);
    out += static_cast<char>(0x80 | (point >> 12 & 0x3f));
    out += static_cast<char>(0x80 | (point >> 6 & 0x3f));
    out += static_cast<char>(0x80 | (point & 0x3f));
  }
}

constexpr uint32_t replacementCharacter = 0xfffd;

/** The character of an escape \uXXXX whose digits are at `at`; both halves, if it is a surrogate pair. */
uint32_t escapedPoint(Value value, size_t& at) {
  const int first = unit(value, at);
  at += 4;
  if (first < 0xd800 || first > 0xdfff) return static_cast<uint32_t>(first);
  const bool pair = first < 0xdc00 && value.substr(at, 2) == "\\u";
  const int second = pair ? unit(value, at + 2) : -1;
  if (second < 0xdc00 || second > 0xdfff) return replacementCharacter;
  at += 6;
  return 0x10000 + (static_cast<uint32_t>(first & 0x3ff) << 10) + static_cast<uint32_t>(second & 0x3ff);
}

char plainEscape(char c) {
  switch (c) {
    case 'b':
      return '\b';
    case 'f':
      return '\f';
    case 'n':
      return '\n';
    case 'r':
      return '\r';
    case 't':
      return '\t';
    default:
      return c;
  }
}

}  // namespace

Checked check(std::string_view text) { return Checker(text).whole(); }

bool isObject(Value value) { return !value.empty() && value[0] == '{'; }
bool isArray(Value value) { return !value.empty() && value[0] == '['; }
bool isString(Value value) { return !value.empty() && value[0] == '"'; }

bool nextMember(Value object, size_t& at, Value& name, Value& value) {
  if (!isObject(object)) return false;
  // Behind the opening brace, or behind a value: then a comma comes next, or the end.
  at = pastSpace(object, at == 0 ? 1 : at);
  if (at < object.size() && object[at] == ',') at = pastSpace(object, at + 1);
  if (at >= object.size() || object[at] != '"') return false;
  const size_t nameEnd = pastString(object, at);
  name = object.substr(at, nameEnd - at);
  const size_t valueBegin = pastSpace(object, pastSpace(object, nameEnd) + 1);
  at = pastValue(object, valueBegin);
  value = object.substr(valueBegin, at - valueBegin);
  return true;
}

std::optional<Value> member(Value object, std::string_view name) {
  std::optional<Value> found;
  Value key;
  Value value;
  for (size_t at = 0; nextMember(object, at, key, value);) {
    if (text(key) == name) found = value;
  }
  return found;
}

std::optional<std::string> text(Value value) {
  if (!isString(value) || value.size() < 2) return {};
  std::string out;
  for (size_t at = 1; at + 1 < value.size();) {
    if (value[at] != '\\') {
      out += value[at++];
      continue;
    }
    const char kind = value[at + 1];
    at += 2;
    if (kind == 'u') appendUtf8(out, escapedPoint(value, at));
    else out += plainEscape(kind);
  }
  return out;
}

std::optional<uint64_t> number(Value value, uint64_t max) {
  if (value.empty() || value.size() > 19) return {};
  uint64_t result = 0;
  for (const char c : value) {
    if (!isDigit(c)) return {};
    result = result * 10 + static_cast<uint64_t>(c - '0');
  }
  if (result > max) return {};
  return result;
}

std::string quote(std::string_view text) {
  static constexpr char hex[] = "0123456789abcdef";
  std::string out = "\"";
  for (size_t at = 0; at < text.size();) {
    const size_t bytes = sequenceBytes(text, at);
    const auto c = static_cast<uint8_t>(text[at]);
    if (bytes == 0) {
      appendUtf8(out, replacementCharacter);
      at++;
      continue;
    }
    if (c == '"' || c == '\\') {
      out += '\\';
      out += text[at];
    } else if (c < 0x20 || c == 0x7f) {
      out += "\\u00";
      out += hex[c >> 4];
      out += hex[c & 15];
    } else {
      out += text.substr(at, bytes);
    }
    at += bytes;
  }
  return out + '"';
}

}  // namespace cni::json
