#include "base/websocket.h"

#include <gtest/gtest.h>

namespace kumoi {
namespace {

constexpr char kRequest[] =
    "GET /vnc HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: keep-alive, Upgrade\r\n"
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
    "Sec-WebSocket-Protocol: chat, binary\r\n\r\n";

std::string masked(char first, std::string_view content) {
    const std::string mask = "\x11\x22\x33\x44";
    std::string out(1, first);
    if (content.size() < 126) {
        out += static_cast<char>(0x80 | content.size());
    } else {
        out += static_cast<char>(0x80 | 126);
        out += static_cast<char>(content.size() >> 8);
        out += static_cast<char>(content.size());
    }
    out += mask;
    for (size_t i = 0; i < content.size(); ++i) {
        out += static_cast<char>(content[i] ^ mask[i % 4]);
    }
    return out;
}

TEST(WebSocketTest, ShakesHandsAsInTheRfc) {
    EXPECT_EQ(websocket_accept("dGhlIHNhbXBsZSBub25jZQ=="), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    WebSocketStream socket({"binary"});
    const std::string request = kRequest;
    for (const char c : request) {  // a byte at a time
        ASSERT_TRUE(socket.receive(std::string_view(&c, 1)));
    }
    const std::string answer = socket.take_output();
    EXPECT_TRUE(answer.starts_with("HTTP/1.1 101 "));
    EXPECT_NE(answer.find("Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"),
              std::string::npos);
    EXPECT_NE(answer.find("Sec-WebSocket-Protocol: binary\r\n"), std::string::npos);
    EXPECT_TRUE(socket.open());
}

TEST(WebSocketTest, CarriesPayloadBothWays) {
    WebSocketStream socket({"binary"});
    ASSERT_TRUE(socket.receive(kRequest));
    socket.take_output();
    const std::string long_one(300, 'x');
    auto payload = socket.receive(masked('\x82', "abc") + masked('\x02', "de") +
                                  masked('\x80', "f") + masked('\x82', long_one));
    ASSERT_TRUE(payload);
    EXPECT_EQ(*payload, "abcdef" + long_one);
    EXPECT_EQ(WebSocketStream::frame("hi"), std::string("\x82\x02hi"));
    EXPECT_EQ(WebSocketStream::frame(long_one).substr(0, 4), std::string("\x82\x7e\x01\x2c"));
}

TEST(WebSocketTest, AnswersPingAndClose) {
    WebSocketStream socket({"binary"});
    ASSERT_TRUE(socket.receive(kRequest));
    socket.take_output();
    ASSERT_TRUE(socket.receive(masked('\x89', "yo")));
    EXPECT_EQ(socket.take_output(), "\x8a\x02yo");
    ASSERT_TRUE(socket.receive(masked('\x88', std::string("\x03\xe8", 2)) + "whatever"));
    EXPECT_TRUE(socket.closed());
    EXPECT_EQ(socket.take_output(), "\x88\x02\x03\xe8");
}

TEST(WebSocketTest, RefusesWhatIsNone) {
    for (const std::string& bad :
         {std::string("POST / HTTP/1.1\r\n\r\n"), std::string("GET / HTTP/1.1\r\nnonsense\r\n\r\n"),
          std::string("GET / HTTP/1.1\r\nUpgrade: websocket\r\n\r\n"), std::string(9000, 'a')}) {
        WebSocketStream socket({"binary"});
        EXPECT_FALSE(socket.receive(bad));
        EXPECT_TRUE(socket.take_output().starts_with("HTTP/1.1 400 "));
    }
    for (const std::string& bad : {std::string("\x82\x01x"), masked('\xc2', "x"),
                                   std::string("\x82\xff\x7f\xff\xff\xff\xff\xff\xff\xff"),
                                   masked('\x83', "x"), masked('\x09', "x")}) {
        WebSocketStream socket({"binary"});
        ASSERT_TRUE(socket.receive(kRequest));
        EXPECT_FALSE(socket.receive(bad));
    }
}

}  // namespace
}  // namespace kumoi
