// The part of VmmProcess for a live upgrade (docs/reference/live-upgrade.md): the older process
// passes on what its machine is made of, the newer one takes it, before its sandbox closes.
#include <fcntl.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include <cerrno>

#include "hypervisor/control/control_client.h"
#include "hypervisor/control/vmm_process.h"

namespace kumoi::hypervisor {

namespace {

constexpr int64_t kPatienceMs = 5000;
constexpr std::string_view kConnect = "connect:";
constexpr std::string_view kHeir = "connect:heir";

}  // namespace

// The older process may be its guest's by now: what it passes is checked like a stranger's, and is
// used where this machine's own configuration names it, for nothing else.
Result<void> VmmProcess::inherit() {
    auto client = TRY(ControlClient::connect(options_.upgrade_of, kPatienceMs));
    int ends[2];
    if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) != 0) {
        return Error::from_errno(errno, "making a pair of sockets");
    }
    const UniqueFd here(ends[0]);
    UniqueFd there(ends[1]);
    const NamedDescriptor descriptor{std::string(kHeir), there.get()};
    TRY(client.call("upgrade_descriptors", Json::object({{"connection", kHeir}}), kPatienceMs,
                    std::span(&descriptor, 1)));
    there.reset();
    auto items = TRY(Heritage::receive(here.get(), kPatienceMs));
    for (const Heritage::Item& item : items) {
        TRY(Heritage::check(item));
    }
    if (!options_.inherit_lock.empty()) {
        TRY(inherit_lock(items));
    }
    heir_files_.heritage()->inherit(std::move(items));
    return {};
}

// It belongs to the open file, so to every descriptor of it: from now on it ends with the last of
// both processes. That it is the one which holds the lock shows in that it can be taken again.
Result<void> VmmProcess::inherit_lock(std::vector<Heritage::Item>& items) {
    struct stat wanted {};
    if (::stat(options_.inherit_lock.c_str(), &wanted) != 0) {
        return Error::from_errno(errno, "looking at " + options_.inherit_lock);
    }
    for (Heritage::Item& item : items) {
        struct stat status {};
        if (item.name.starts_with(kKeptPrefix) && ::fstat(item.fd.get(), &status) == 0 &&
            status.st_dev == wanted.st_dev && status.st_ino == wanted.st_ino &&
            ::flock(item.fd.get(), LOCK_EX | LOCK_NB) == 0) {
            inherited_lock_ = std::move(item.fd);
            ::fcntl(inherited_lock_.get(), F_SETFD, 0);  // the launcher keeps it as well
            heir_files_.heritage()->remember(item.name, inherited_lock_.get());
            item.fd = UniqueFd();
            return {};
        }
    }
    return Error::not_found("the older process holds no lock on {}", options_.inherit_lock);
}

Result<Json> VmmProcess::handle_upgrade_descriptors(const Json& params) {
    Vmm* vmm = TRY(machine());
    const JsonView view(params, "params");
    TRY(view.only({"connection"}));
    const std::string name = TRY(view.string("connection"));
    if (!name.starts_with(kConnect)) {
        return Error::invalid("params.connection: \"{}\" does not begin with \"{}\"", name,
                              kConnect);
    }
    if (vmm->state() != VmState::Running && vmm->state() != VmState::Paused) {
        return Error::conflict("the machine is {}; only a running or paused one can be upgraded",
                               to_string(vmm->state()));
    }
    const UniqueFd connection = TRY(files_.connect(name.substr(kConnect.size())));
    const Heritage& heritage = *heir_files_.heritage();
    TRY(heritage.send(connection.get()));
    return Json::object({{"descriptors", static_cast<int64_t>(heritage.items().size())}});
}

}  // namespace kumoi::hypervisor
