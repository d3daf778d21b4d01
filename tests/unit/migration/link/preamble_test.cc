#include "migration/link/preamble.h"

#include <gtest/gtest.h>

namespace kumoi::link {
namespace {

const std::string kKey(kKeySize, 'k');

Introduction introduction() {
    Introduction one;
    one.round = 0x01020304;
    one.index = 3;
    one.count = 8;
    one.id[0] = 0xab;
    one.nonce[31] = 'n';
    one.proof = std::string(kProofSize, 'p');
    return one;
}

TEST(Preamble, ComesBackAsItWasSaid) {
    const std::string bytes = encode(introduction());
    ASSERT_EQ(bytes.size(), kIntroductionSize);
    const auto again = parse_introduction(bytes);
    ASSERT_TRUE(again.ok()) << again.error().text();
    EXPECT_EQ(again->round, 0x01020304u);
    EXPECT_EQ(again->index, 3);
    EXPECT_EQ(again->count, 8);
    EXPECT_EQ(encode(*again), bytes);

    Greeting greeting{Encryption::Certificates, {}};
    greeting.nonce[0] = 'g';
    const auto greeted = parse_greeting(encode(greeting));
    ASSERT_TRUE(greeted.ok());
    EXPECT_EQ(greeted->encryption, Encryption::Certificates);
    EXPECT_EQ(greeted->nonce[0], 'g');

    const auto reply = parse_reply(encode(Reply{Verdict::Welcome, std::string(kProofSize, 'r')}));
    ASSERT_TRUE(reply.ok());
    EXPECT_EQ(reply->verdict, Verdict::Welcome);
    EXPECT_EQ(reply->proof, std::string(kProofSize, 'r'));
}

TEST(Preamble, OtherBytesAreRefused) {
    std::string bytes = encode(introduction());
    EXPECT_EQ(parse_introduction(bytes.substr(1)).error().code, ErrorCode::Corrupt);
    bytes[9] = 2;  // the version
    EXPECT_EQ(parse_introduction(bytes).error().code, ErrorCode::Unsupported);

    Introduction many = introduction();
    many.count = kStreamsMax + 1;
    EXPECT_FALSE(parse_introduction(encode(many)).ok());
    Introduction beyond = introduction();
    beyond.index = beyond.count;
    EXPECT_FALSE(parse_introduction(encode(beyond)).ok());
    Introduction odd = introduction();
    odd.purpose = static_cast<Purpose>(9);
    EXPECT_FALSE(parse_introduction(encode(odd)).ok());

    std::string greeting = encode(Greeting{});
    greeting[10] = 7;  // an encryption that there is not
    EXPECT_EQ(parse_greeting(greeting).error().code, ErrorCode::Unsupported);
    EXPECT_FALSE(parse_reply(std::string(kReplySize, '\0')).ok());
}

// Whatever either side said, also how the stream shall be encrypted, is what the proofs are over.
TEST(Preamble, ProofsCoverAllThatWasSaid) {
    const Greeting greeting{Encryption::Psk, {}};
    const std::string proof = Transcript(kKey, greeting, introduction()).caller_proof();
    EXPECT_EQ(proof.size(), kProofSize);
    EXPECT_NE(proof, Transcript(kKey, greeting, introduction()).callee_proof());
    EXPECT_NE(proof, Transcript(kKey, greeting, introduction()).tls_secret());
    EXPECT_NE(proof,
              Transcript(std::string(kKeySize, 'x'), greeting, introduction()).caller_proof());
    EXPECT_NE(proof, Transcript(kKey, {Encryption::None, {}}, introduction()).caller_proof());
    for (const auto& change : std::initializer_list<void (*)(Introduction&)>{
             [](Introduction& one) { one.purpose = Purpose::Question; },
             [](Introduction& one) { one.round += 1; }, [](Introduction& one) { one.index = 4; },
             [](Introduction& one) { one.count = 9; }, [](Introduction& one) { one.id[15] = 1; },
             [](Introduction& one) { one.nonce[0] = 1; }}) {
        Introduction changed = introduction();
        change(changed);
        EXPECT_NE(proof, Transcript(kKey, greeting, changed).caller_proof());
    }
}

}  // namespace
}  // namespace kumoi::link
