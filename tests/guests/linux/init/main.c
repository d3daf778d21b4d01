// kumoi-init, process 1 of the test guest "kumoi-tiny": a tiny cloud-init, DHCP client and init in
// one process, because each process costs a hundred emulated milliseconds where ring 0 is emulated.
// Order: mounts, config drive, eth0 (static or DHCP), metadata service if there was no config
// drive, user data, self-tests, "ready", shell on the console. Then it waits: lease, power button,
// children. Command line: kumoi.test=... (selftest.h), kumoi.end=poweroff|reboot, kumoi.noshell.
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/input.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "cloud.h"
#include "net.h"
#include "selftest.h"
#include "util.h"

enum { kNetworkPatienceMs = 20000, kButtonsMax = 4 };
static const char kInterface[] = "eth0";
static const char kConsole[] = "/dev/ttyS0";

typedef struct {
    char command_line[2048];
    Cloud cloud;
    Dhcp dhcp;
    int signals;
    int buttons[kButtonsMax];
    int64_t network_deadline_ms;
    bool settled;  // the network is there, or nobody waits for it any more
    pid_t user_data;
    pid_t shell;
} Init;
static Init init = {.dhcp.fd = -1, .signals = -1};

static bool option(const char* word) {
    return strstr(init.command_line, word) != NULL;
}

static void shut_down(const char* why, int how) {
    say("kumoi-tiny: %s, %s", why, how == RB_POWER_OFF ? "powering off" : "rebooting");
    kill(-1, SIGTERM);
    for (int i = 0; i < 20 && waitpid(-1, NULL, WNOHANG) >= 0; i++) {
        const struct timespec pause = {0, 50000000};
        nanosleep(&pause, NULL);
    }
    kill(-1, SIGKILL);
    sync();
    mount(NULL, "/", NULL, MS_REMOUNT | MS_RDONLY, NULL);
    reboot(how);
    say("kumoi-tiny: reboot(%#x) failed, errno %d", how, errno);
}

static void mount_file_systems(void) {
    mkdir("/proc", 0755);
    mkdir("/sys", 0755);
    mkdir("/dev", 0755);
    mount("proc", "/proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, "");
    mount("sysfs", "/sys", "sysfs", MS_NOSUID | MS_NODEV | MS_NOEXEC, "");
    mount("dev", "/dev", "devtmpfs", MS_NOSUID, "");  // EBUSY: the kernel has done it already
    mkdir("/run", 0755);
    mkdir("/tmp", 01777);
    mount("run", "/run", "tmpfs", MS_NOSUID | MS_NODEV, "");
    mount("tmp", "/tmp", "tmpfs", MS_NOSUID | MS_NODEV, "");
}

static void open_console(void) {
    const int fd = open("/dev/console", O_RDWR);
    if (fd >= 0) {
        dup2(fd, 0);
        dup2(fd, 1);
        dup2(fd, 2);
        if (fd > 2) {
            close(fd);
        }
    }
}

static void watch_signals(void) {
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGCHLD);
    sigaddset(&set, SIGTERM);  // busybox reboot
    sigaddset(&set, SIGUSR1);  // busybox halt
    sigaddset(&set, SIGUSR2);  // busybox poweroff
    sigaddset(&set, SIGINT);   // ctrl-alt-del
    sigprocmask(SIG_BLOCK, &set, NULL);
    init.signals = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
}

static void open_buttons(void) {
    for (int i = 0; i < kButtonsMax; i++) {
        char path[32];
        snprintf(path, sizeof path, "/dev/input/event%d", i);
        init.buttons[i] = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    }
}

static void report_address(const NetConfig* config, const char* how) {
    const struct in_addr address = {config->address};
    say("kumoi-tiny: %s %s/%d by %s", kInterface, inet_ntoa(address),
        net_prefix_length(config->netmask), how);
}

static void start_shell(void) {
    char* const argv[] = {"/bin/sh", "-l", NULL};
    if (!option("kumoi.noshell") && access(argv[0], X_OK) == 0) {
        init.shell = start(kConsole, argv);
    }
}

static void become_ready(void) {
    selftest_run(init.command_line);
    say("kumoi-tiny: ready");
    if (option("kumoi.end=poweroff")) {
        shut_down("tests done", RB_POWER_OFF);
    } else if (option("kumoi.end=reboot")) {
        shut_down("tests done", RB_AUTOBOOT);
    }
    start_shell();
}

static void run_user_data(void) {
    static const char kPath[] = "/run/user_data";
    const Cloud* cloud = &init.cloud;
    if (cloud->user_data_size < 3 || memcmp(cloud->user_data, "#!", 2) != 0) {
        become_ready();
        return;
    }
    char* const argv[] = {(char*)kPath, NULL};
    if (write_file(kPath, cloud->user_data, cloud->user_data_size, 0700) != 0) {
        say("kumoi-tiny: user data cannot be written, errno %d", errno);
        become_ready();
        return;
    }
    init.user_data = start(NULL, argv);  // become_ready() follows when it ends
}

static void greet(void) {
    char name[128] = "";
    gethostname(name, sizeof name - 1);
    say("kumoi-tiny: hello from %s (%s, %zu keys)", name,
        init.cloud.found ? init.cloud.source : "no cloud", init.cloud.keys);
}

// Once: the network is up or was waited for long enough.
static void settle(bool have_network) {
    init.settled = true;
    if (!init.cloud.found) {
        if (have_network && !option("kumoi.nometadata")) {
            cloud_read_metadata(&init.cloud);
        }
        greet();
    }
    run_user_data();
}

static void start_network(void) {
    net_up("lo");
    if (!net_up(kInterface)) {
        settle(false);
    } else if (init.cloud.has_static) {
        const bool applied = net_apply(kInterface, &init.cloud.static_net);
        report_address(&init.cloud.static_net, applied ? "config drive" : "config drive, in part");
        settle(true);
    } else if (!dhcp_start(&init.dhcp, kInterface, init.cloud.hostname)) {
        say("kumoi-tiny: %s cannot do DHCP, errno %d", kInterface, errno);
        settle(false);
    }
    init.network_deadline_ms = now_ms() + kNetworkPatienceMs;
}

static void step_network(void) {
    if (dhcp_step(&init.dhcp, now_ms())) {
        if (!net_apply(kInterface, &init.dhcp.lease)) {
            say("kumoi-tiny: %s: the lease was applied in part, errno %d", kInterface, errno);
        }
        report_address(&init.dhcp.lease, "DHCP");
        if (!init.settled) {
            settle(true);
        }
    }
    if (!init.settled && now_ms() >= init.network_deadline_ms) {
        say("kumoi-tiny: %s no answer by DHCP in %d s, still asking", kInterface,
            kNetworkPatienceMs / 1000);
        settle(false);
    }
}

static void reap_children(void) {
    int status;
    pid_t child;
    while ((child = waitpid(-1, &status, WNOHANG)) > 0) {
        if (child == init.user_data) {
            init.user_data = 0;
            say("kumoi-tiny: user data ended with %d",
                WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status));
            become_ready();
        } else if (child == init.shell) {
            start_shell();
        }
    }
}

static void handle_signals(void) {
    struct signalfd_siginfo info;
    while (read(init.signals, &info, sizeof info) == (ssize_t)sizeof info) {
        switch (info.ssi_signo) {
            case SIGCHLD: reap_children(); break;
            case SIGUSR1:
            case SIGUSR2: shut_down("asked to", RB_POWER_OFF); break;
            default: shut_down("asked to", RB_AUTOBOOT); break;
        }
    }
}

static void handle_button(int fd) {
    struct input_event event;
    while (read(fd, &event, sizeof event) == (ssize_t)sizeof event) {
        if (event.type == EV_KEY && event.code == KEY_POWER && event.value == 1) {
            shut_down("power button", RB_POWER_OFF);
        }
    }
}

static void wait_once(void) {
    struct pollfd watched[2 + kButtonsMax] = {{init.signals, POLLIN, 0}, {init.dhcp.fd, POLLIN, 0}};
    for (int i = 0; i < kButtonsMax; i++) {
        watched[2 + i] = (struct pollfd){init.buttons[i], POLLIN, 0};
    }
    int64_t wait = -1;
    if (init.dhcp.fd >= 0) {
        const int64_t until = init.settled || init.dhcp.deadline_ms < init.network_deadline_ms
                                  ? init.dhcp.deadline_ms
                                  : init.network_deadline_ms;
        wait = until - now_ms();
        wait = wait < 0 ? 0 : wait > 3600000 ? 3600000 : wait;
    }
    poll(watched, 2 + kButtonsMax, (int)wait);
    handle_signals();
    for (int i = 0; i < kButtonsMax; i++) {
        if (watched[2 + i].revents & POLLIN) {
            handle_button(init.buttons[i]);
        }
    }
    if (init.dhcp.fd >= 0) {
        step_network();
    }
}

int main(void) {
    if (getpid() != 1) {
        say("kumoi-init is process 1 of the test guest; there is nothing to do elsewhere");
        return 1;
    }
    mount_file_systems();
    open_console();
    say("kumoi-tiny: user space after %lld ms", (long long)now_ms());
    read_file("/proc/cmdline", init.command_line, sizeof init.command_line);
    watch_signals();
    open_buttons();
    reboot(RB_DISABLE_CAD);
    sethostname("kumoi-tiny", 10);
    if (cloud_read_config_drive(&init.cloud)) {
        greet();
    }
    start_network();
    for (;;) {
        wait_once();
    }
}
