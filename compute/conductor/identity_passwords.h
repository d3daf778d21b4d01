// PasswordChecker: hashes passwords (scrypt, about 50 ms and 16 MiB each) and checks them, slowly
// on purpose and slower still for whoever guesses. At most two hashes run at once; others wait
// their turn. After five failures in a row for one subject, each further failure doubles the time
// during which its attempts are refused unchecked (1 s to 30 s); a success forgets them. Unknown
// users are treated the same, so answers and times do not tell whether a name exists. Any thread;
// blocks, so only from threads that may (the HTTP workers).
#pragma once

#include <cstdint>
#include <functional>
#include <mutex>
#include <semaphore>
#include <string>
#include <string_view>
#include <unordered_map>

#include "base/clock.h"
#include "base/digest.h"
#include "base/random.h"
#include "base/result.h"

namespace kumoi::compute::identity {

// How passwords are hashed: scrypt, unless a test brings something quicker.
struct PasswordHashing {
    std::function<std::string(std::string_view password, std::string_view salt16)> hash =
        password_hash;
    std::function<bool(std::string_view password, std::string_view hash)> matches =
        password_matches;
};

class PasswordChecker {
public:
    PasswordChecker(const Clock& clock, Random& random, PasswordHashing hashing = {});

    // InvalidArgument: empty or longer than 1024 bytes.
    Result<std::string> hash(std::string_view password);
    // `subject`: whose attempts are counted. An empty hash never matches. Unauthenticated: wrong;
    // Unavailable with fault TooManyRequests: not checked, too many failures before.
    Result<void> check(const std::string& subject, std::string_view password,
                       const std::string& hash);
    // The same for a secret that is not a person's password but must be kept hashed.
    std::string random_secret();  // 256 bits, secret_text()

private:
    struct Failures {
        int count = 0;
        int64_t refused_until_ns = 0;  // monotonic
    };
    Result<void> refuse_if_guessing(const std::string& subject);
    void count_failure(const std::string& subject);

    const Clock& clock_;
    Random& random_;
    const PasswordHashing hashing_;
    const std::string nobody_hash_;  // checked in place of an unknown user's
    std::counting_semaphore<> slots_;
    std::mutex mutex_;  // guards failures_
    std::unordered_map<std::string, Failures> failures_;
};

}  // namespace kumoi::compute::identity
