// FileSource: where kumoi-vmm gets every descriptor of a host resource from: files and devices, TAP
// interfaces, sockets. A sandboxed process has no file system and no network, so nothing in
// hypervisor/ opens a path or makes a socket by itself; it asks the FileSource it was given.
//
//     UniqueFd disk = TRY(files.open("/srv/disk.raw", O_RDWR));
//     UniqueFd card = TRY(files.open_tap("tap0"));
//     UniqueFd door = TRY(files.listen("/run/guest/control.sock"));
//
// DirectFiles opens. PassedFiles hands out what the launcher (or a request on the control socket)
// brought for exactly that name. Threads, pipes, eventfds, memfds and rings need no FileSource.
// Loop thread only.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/fd.h"
#include "base/result.h"

namespace kumoi::hypervisor {

class Heritage;

class FileSource {
public:
    virtual ~FileSource() = default;

    // As open(2); close-on-exec.
    virtual Result<UniqueFd> open(const std::string& path, int flags, unsigned mode = 0644) = 0;
    // A queue of an existing TAP interface, non-blocking, with a virtio header (IFF_VNET_HDR). Each
    // call gives the next queue of one opened with `multi_queue`.
    virtual Result<UniqueFd> open_tap(const std::string& interface, bool multi_queue = false) = 0;
    // A listening unix stream socket, non-blocking. Replaces a socket file nobody listens on.
    virtual Result<UniqueFd> listen(const std::string& path, unsigned mode = 0600) = 0;
    // A listening TCP socket, non-blocking. `host` is a numeric address.
    virtual Result<UniqueFd> listen_tcp(const std::string& host, uint16_t port) = 0;
    // A connected unix stream socket, blocking.
    virtual Result<UniqueFd> connect(const std::string& path) = 0;
    // A way to connect to this path again and again, from any one thread, while the guest runs:
    // for a peer that may be restarted. Never waits; what it gives is non-blocking.
    using Connector = std::function<Result<UniqueFd>()>;
    virtual Result<Connector> connector(const std::string& path) = 0;
    // The same for PATH_1, PATH_2 and so on: to where a guest's vsock connections go.
    using PortConnector = std::function<Result<UniqueFd>(uint32_t port)>;
    virtual Result<PortConnector> port_connector(const std::string& path) = 0;
    // Removes a socket file that listen() made; where that is another's work, nothing.
    virtual void remove_socket(const std::string& path) = 0;
    // What is passed on to a newer process of this machine, and what came from an older one
    // (hypervisor/upgrade). Null: nothing.
    virtual Heritage* heritage() { return nullptr; }
};

class DirectFiles final : public FileSource {
public:
    Result<UniqueFd> open(const std::string& path, int flags, unsigned mode = 0644) override;
    Result<UniqueFd> open_tap(const std::string& interface, bool multi_queue = false) override;
    Result<UniqueFd> listen(const std::string& path, unsigned mode = 0600) override;
    Result<UniqueFd> listen_tcp(const std::string& host, uint16_t port) override;
    Result<UniqueFd> connect(const std::string& path) override;
    Result<Connector> connector(const std::string& path) override;
    Result<PortConnector> port_connector(const std::string& path) override;
    void remove_socket(const std::string& path) override;
};

// For programs and tests without a sandbox: DirectFiles has no state.
FileSource& direct_files();

class PassedFiles final : public FileSource {
public:
    enum class Kind { File, Tap, Listener, TcpListener, Connection };
    // Always: every open() gets a duplicate (a kernel is read again at each reset). Once: the first
    // open() takes it, so that closing it ends locks and frees the name for another.
    enum class Keep { Once, Always };

    // A table bigger than this refuses more: what comes over the control socket is bounded.
    static constexpr size_t kEntriesMax = 1024;

    // While it lives, what is put is a guest of the table: what nobody has taken by its end is
    // closed. For the descriptors of one control request.
    class Visit {
    public:
        explicit Visit(PassedFiles& files) : files_(files) { files_.visiting_ = true; }
        ~Visit() { files_.end_visit(); }
        Visit(const Visit&) = delete;
        Visit& operator=(const Visit&) = delete;

    private:
        PassedFiles& files_;
    };

    // `otherwise` is asked for what the table has not; null: nobody.
    explicit PassedFiles(FileSource* otherwise = nullptr) : otherwise_(otherwise) {}
    void set_otherwise(FileSource* otherwise) { otherwise_ = otherwise; }

    // `fd` must be what the kind says (checked for sockets and TAPs by the one who uses it).
    Result<void> put(Kind kind, std::string name, UniqueFd fd, Keep keep = Keep::Once);
    // A name as the control protocol has it: an absolute path, "tap:INTERFACE", "listen:PATH",
    // "connect:PATH" or "tcp:HOST:PORT". Refuses a descriptor of another kind, above all a
    // directory, which would be a way back to the file system.
    Result<void> put_named(const std::string& name, UniqueFd fd);
    // Closes what is still there under this name.
    void forget(Kind kind, const std::string& name);
    size_t size() const { return entries_.size(); }

    // The entry of this path whose access covers `flags`; O_APPEND, O_DIRECT, O_NONBLOCK and
    // O_TRUNC are applied to it, O_DSYNC must have been given when it was opened.
    Result<UniqueFd> open(const std::string& path, int flags, unsigned mode = 0644) override;
    Result<UniqueFd> open_tap(const std::string& interface, bool multi_queue = false) override;
    Result<UniqueFd> listen(const std::string& path, unsigned mode = 0600) override;
    Result<UniqueFd> listen_tcp(const std::string& host, uint16_t port) override;
    Result<UniqueFd> connect(const std::string& path) override;
    Result<Connector> connector(const std::string& path) override;
    Result<PortConnector> port_connector(const std::string& path) override;
    void remove_socket(const std::string& path) override;

private:
    struct Entry {
        UniqueFd fd;
        Keep keep;
        bool visitor;
    };
    using Entries = std::multimap<std::pair<Kind, std::string>, Entry>;
    Result<UniqueFd> take(Entries::iterator entry);
    Result<UniqueFd> take_first(Kind kind, const std::string& name, std::string_view what);

    bool has(Kind kind, const std::string& name) const { return entries_.contains({kind, name}); }
    void end_visit();

    Entries entries_;
    FileSource* otherwise_;
    bool visiting_ = false;
};

// The name of a TCP listener in the table.
std::string tcp_name(const std::string& host, uint16_t port);

}  // namespace kumoi::hypervisor
