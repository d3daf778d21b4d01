// Figures of the Compute API over HTTP, with the real conductor on a SQLite file, the real manager
// and the simulated driver. Every figure is one line "name value unit".
//
//     rest_bench [SERVERS [DIR]]       default: 1000 servers, database in $TMPDIR
//
// create_to_active: one client, POST until GET shows ACTIVE. creates: 16 clients, until all are
// ACTIVE. servers_detail: GET /servers/detail of all servers, 1 and 8 clients, with the 99th
// percentile.
#include <fmt/core.h>
#include <poll.h>

#include <algorithm>
#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <thread>

#include "api/http/http_client.h"
#include "api/http/server.h"
#include "api/rest/compute/compute_api.h"
#include "base/file.h"
#include "compute/driver/simulated_driver.h"
#include "compute/manager/compute_manager.h"
#include "compute/network/network_service.h"
#include "compute/network/node_network_fake.h"

namespace kumoi::api {
namespace {

constexpr int kCreateClients = 16;
constexpr int kLatencySamples = 60;
constexpr int64_t kSeconds = 5;
constexpr char kImage[] = "340aee23-0f31-4bb7-a985-456e4da837c6";

class OneToken final : public TokenValidator {
public:
    Result<AuthContext> validate(std::string_view) override {
        AuthContext who;
        who.user_id = who.project_id = "bench";
        who.roles = {"admin"};
        who.is_admin = true;
        return who;
    }
};

class OneImage final : public compute::ImageApi {
public:
    Result<compute::ImageMeta> show(const compute::RequestContext&,
                                    const std::string& id) override {
        compute::ImageMeta image;
        image.id = id;
        image.status = "active";
        image.disk_format = "raw";
        image.size = 1 << 20;
        return image;
    }
    Result<void> download(const compute::RequestContext&, const std::string&,
                          const std::function<Result<void>(std::span<const std::byte>)>&) override {
        return {};  // the simulated driver reads none
    }
    Result<compute::ImageMeta> create(const compute::RequestContext&,
                                      const compute::ImageMeta&) override {
        return Error::unsupported("not in this bench");
    }
    Result<void> upload(const compute::RequestContext&, const std::string&,
                        const compute::ImageMeta&, const Source&) override {
        return Error::unsupported("not in this bench");
    }
    Result<void> remove(const compute::RequestContext&, const std::string&) override { return {}; }
    Result<std::vector<compute::ImageMeta>> list(const compute::RequestContext&,
                                                 const compute::Properties&) override {
        return std::vector<compute::ImageMeta>();
    }
};

class Bench {
public:
    static Result<void> run(int64_t servers, const std::string& folder) {
        Bench bench;
        TRY(bench.start(folder));
        TRY(bench.create_latency());
        TRY(bench.create_throughput(servers - kLatencySamples));
        for (const int clients : {1, 8}) {
            TRY(bench.list_throughput(clients, servers));
        }
        return {};
    }

private:
    Result<void> start(const std::string& folder) {
        database_ = TRY(compute::Database::open(folder + "/kumoi.db"));
        networks_ = TRY(compute::NetworkService::create(*database_, clock_, random_));
        vifs_ = std::make_unique<compute::NodeNetworkFake>(*networks_);
        compute::SimulatedOptions simulated;
        simulated.vcpus = simulated.memory_mb = simulated.local_gb = 1 << 24;
        driver_ = std::make_unique<compute::SimulatedDriver>(simulated, clock_, random_);
        conductor_ =
            TRY(compute::Conductor::create({}, {*database_, clock_, random_, images_, *networks_}));
        compute::ManagerOptions options;
        options.host = "cn-1";
        options.state_path = folder;
        manager_ = TRY(compute::ComputeManager::create(
            {*conductor_, *networks_, *vifs_, *driver_, clock_, images_}, options));
        conductor_->register_host("cn-1", *manager_);
        TRY(manager_->init_host());
        manager_->heartbeat();
        TRY(manager_->update_available_resource());
        TRY(conductor_->quotas().set("bench", {{"instances", -1}, {"cores", -1}, {"ram", -1}}));
        compute::Flavor flavor;
        flavor.flavor_id = flavor.name = "1";
        flavor.vcpus = flavor.root_gb = 1;
        flavor.memory_mb = 64;
        TRY(conductor_->flavors().create(flavor));
        services_ = std::make_unique<ComputeServices>(
            ComputeServices{*conductor_, clock_, random_, tokens_, "http://localhost", 100'000});
        server_ =
            TRY(make_pistache_server({.name = "bench", .worker_threads = 16},
                                     make_compute_router(*services_), {clock_, random_, metrics_}));
        return server_->start();
    }

    Result<HttpResponse> send(const std::string& method, const std::string& path,
                              std::string body = {}) {
        HttpRequest request;
        request.method = method;
        request.url = fmt::format("http://127.0.0.1:{}/v2.1{}", server_->port(), path);
        request.headers.add("X-Auth-Token", "t");
        request.headers.add("OpenStack-API-Version", "compute 2.90");
        request.headers.add("Content-Type", "application/json");
        request.body = std::move(body);
        HttpResponse response = TRY(client_.send(request));
        if (!response.ok()) {
            return Error::internal("{} {}: {} {}", method, path, response.status, response.body);
        }
        return response;
    }

    Result<std::string> create() {
        const HttpResponse response = TRY(send(
            "POST", "/servers",
            fmt::format(
                R"({{"server":{{"name":"b","flavorRef":"1","imageRef":"{}","networks":"none"}}}})",
                kImage)));
        return TRY(response.json()).find("server")->string_or("id");
    }

    Result<void> create_latency() {
        std::vector<double> samples;
        for (int index = 0; index < kLatencySamples; ++index) {
            const int64_t started_ns = clock_.monotonic_ns();
            const std::string id = TRY(create());
            while (TRY(send("GET", "/servers/" + id)).body.find(R"("status":"ACTIVE")") ==
                   std::string::npos) {
                ::poll(nullptr, 0, 1);
            }
            samples.push_back(milliseconds_since(started_ns));
        }
        std::sort(samples.begin(), samples.end());
        print("create_to_active_p50", percentile(samples, 50), "ms");
        print("create_to_active_p99", percentile(samples, 99), "ms");
        return {};
    }

    Result<void> create_throughput(int64_t count) {
        std::atomic<int64_t> left{count};
        std::atomic<int64_t> failures{0};
        const int64_t started_ns = clock_.monotonic_ns();
        run_clients(kCreateClients, [&] {
            while (left.fetch_sub(1) > 0) {
                failures += create().ok() ? 0 : 1;
            }
        });
        manager_->wait_idle();
        const double seconds = milliseconds_since(started_ns) / 1000;
        int64_t active = 0;
        for (const auto& stored : conductor_->instances().all()) {
            active += stored->instance.vm_state == "active" ? 1 : 0;
        }
        if (failures > 0 || active != count + kLatencySamples) {
            return Error::internal("{} creates failed, {} servers are active", failures.load(),
                                   active);
        }
        print("creates", static_cast<double>(count) / seconds, "servers/s");
        return {};
    }

    Result<void> list_throughput(int clients, int64_t servers) {
        std::mutex mutex;
        std::vector<double> samples;
        std::atomic<int64_t> failures{0};
        const std::string path = fmt::format("/servers/detail?limit={}", servers);
        const int64_t started_ns = clock_.monotonic_ns();
        run_clients(clients, [&] {
            while (clock_.monotonic_ns() - started_ns < kSeconds * kNanosPerSecond) {
                const int64_t sent_ns = clock_.monotonic_ns();
                failures += send("GET", path).ok() ? 0 : 1;
                const std::lock_guard lock(mutex);
                samples.push_back(milliseconds_since(sent_ns));
            }
        });
        if (failures > 0) {
            return Error::internal("{} lists failed", failures.load());
        }
        const double seconds = milliseconds_since(started_ns) / 1000;
        std::sort(samples.begin(), samples.end());
        const std::string name = fmt::format("servers_detail_{}_clients_{}", servers, clients);
        print(name, static_cast<double>(samples.size()) / seconds, "requests/s");
        print(name + "_p99", percentile(samples, 99), "ms");
        return {};
    }

    template <class Function>
    static void run_clients(int count, const Function& function) {
        std::vector<std::thread> threads;
        for (int index = 0; index < count; ++index) {
            threads.emplace_back(function);
        }
        for (std::thread& thread : threads) {
            thread.join();
        }
    }
    double milliseconds_since(int64_t started_ns) const {
        return static_cast<double>(clock_.monotonic_ns() - started_ns) / kNanosPerMilli;
    }
    static double percentile(const std::vector<double>& sorted, size_t percent) {
        return sorted[std::min(sorted.size() - 1, sorted.size() * percent / 100)];
    }
    static void print(const std::string& name, double value, const char* unit) {
        fmt::print("{} {:.1f} {}\n", name, value, unit);
        std::fflush(stdout);
    }

    SystemClock clock_;
    SystemRandom random_;
    Metrics metrics_;
    OneToken tokens_;
    OneImage images_;
    std::unique_ptr<compute::Database> database_;
    std::unique_ptr<compute::NetworkService> networks_;
    std::unique_ptr<compute::NodeNetworkFake> vifs_;
    std::unique_ptr<compute::SimulatedDriver> driver_;
    std::unique_ptr<compute::Conductor> conductor_;
    std::unique_ptr<compute::ComputeManager> manager_;
    std::unique_ptr<ComputeServices> services_;
    std::unique_ptr<HttpServer> server_;
    HttpClient client_{{.idle_handles_max = 32}};
};

Result<void> run(int argc, char** argv) {
    const int64_t servers = std::max(kLatencySamples + 1, argc > 1 ? std::atoi(argv[1]) : 1000);
    if (argc > 2) {
        return Bench::run(servers, argv[2]);
    }
    const TemporaryDirectory folder = TRY(TemporaryDirectory::create("rest_bench"));
    return Bench::run(servers, folder.path());
}

}  // namespace
}  // namespace kumoi::api

int main(int argc, char** argv) {
    const auto outcome = kumoi::api::run(argc, argv);
    if (!outcome.ok()) {
        fmt::print(stderr, "rest_bench: {}\n", outcome.error().text());
    }
    return outcome.ok() ? 0 : 1;
}
