/**
 * Tells of texts whether they are JSON, and what is in them, for a test that knows it from elsewhere; and changes texts at random,
 * under sanitizers: whatever is checked and found good has to be readable to its end.
 *
 *   json-verdicts < TEXTS        texts, each behind its length in decimals and a line feed; a line for each: "no", or "yes" and the
 *                                members' names and values of an object, all quoted anew
 *   json-verdicts ROUNDS SEED    ROUNDS changed texts
 */
#include <cstdio>
#include <cstdlib>
#include <random>
#include <string>
#include <vector>

#include "../json.h"

namespace {

std::string verdict(std::string_view text) {
  const cni::json::Checked checked = cni::json::check(text);
  if (!checked.value) return "no";
  std::string line = "yes";
  cni::json::Value name;
  cni::json::Value value;
  for (size_t at = 0; cni::json::nextMember(*checked.value, at, name, value);) {
    const auto said = cni::json::text(value);
    line += ' ' + cni::json::quote(*cni::json::text(name)) + '=' + (said ? cni::json::quote(*said) : std::string(value));
    if (!cni::json::check(value).value) line += " BROKEN";
  }
  return line;
}

int verdicts() {
  std::string input;
  char piece[65536];
  for (size_t got; (got = fread(piece, 1, sizeof piece, stdin)) > 0;) input.append(piece, got);
  for (size_t at = 0; at < input.size();) {
    const size_t lineEnd = input.find('\n', at);
    const auto length = strtoul(input.c_str() + at, nullptr, 10);
    // A copy of its own: a read beyond it is found.
    const std::string text = input.substr(lineEnd + 1, length);
    puts(verdict({text.data(), text.size()}).c_str());
    at = lineEnd + 1 + length;
  }
  return 0;
}

int mutations(long rounds, unsigned seed) {
  const std::vector<std::string> texts = {
      R"({"cniVersion":"1.0.0","name":"n","type":"t","pingGroup":107,"prevResult":{"ips":[{"address":"10.0.0.2/24"}],"dns":{}}})",
      R"([1,-0.5e+10,"\u00e4\ud83d\ude00\n",true,false,null,{"a":{"b":[[]]}}])",
      R"({"":"","\"":"\\","x":[{},{"y":0}]})",
  };
  const std::string alphabet = "{}[]\":,\\u0123456789eE+-. \n\ttrfalsn\x80\xc3\xed\xf4\xff";
  std::mt19937 random(seed);
  long good = 0;
  for (long i = 0; i < rounds; i++) {
    std::string text = texts[random() % texts.size()];
    for (unsigned n = random() % 4; n > 0; n--) {
      const size_t at = random() % (text.size() + 1);
      const char c = alphabet[random() % alphabet.size()];
      switch (random() % 4) {
        case 0:
          text.insert(at, 1, c);
          break;
        case 1:
          if (at < text.size()) text[at] = c;
          break;
        case 2:
          text.erase(at, 1 + random() % 3);
          break;
        default:
          text.insert(at, text.substr(random() % (text.size() + 1), random() % 20));
      }
    }
    const std::vector<char> exact(text.begin(), text.end());
    const std::string line = verdict({exact.data(), exact.size()});
    if (line.find("BROKEN") != std::string::npos) {
      printf("seed %u round %ld: %s\n", seed, i, text.c_str());
      return 1;
    }
    if (line != "no") good++;
  }
  printf("%ld of %ld are JSON\n", good, rounds);
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 3) return verdicts();
  return mutations(strtol(argv[1], nullptr, 10), static_cast<unsigned>(strtoul(argv[2], nullptr, 10)));
}
