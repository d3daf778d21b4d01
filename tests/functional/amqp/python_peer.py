"""A peer that is Python's own oslo.messaging: `server URL` answers topic "pytopic", `client URL` calls our server
and prints one JSON line an answer, `bench URL COUNT` times calls to our server, `listen URL` prints notifications."""
import json
import sys
import time
import types

# oslo.messaging rebuilds a remote exception only from a module it may import; Nova itself is not needed here.
exception = types.ModuleType("nova.exception")


class NovaException(Exception):
    code = 500

    def __init__(self, message=None, **kwargs):
        self.kwargs = dict(kwargs, code=kwargs.get("code", self.code))
        super().__init__(message)


class InstanceNotFound(NovaException):
    code = 404


for known in (NovaException, InstanceNotFound):
    known.__module__ = "nova.exception"
    setattr(exception, known.__name__, known)
sys.modules["nova"] = types.ModuleType("nova")
sys.modules["nova.exception"] = exception

import oslo_messaging  # noqa: E402
from oslo_config import cfg  # noqa: E402


def make_transport(url, kind=oslo_messaging.get_rpc_transport):
    conf = cfg.CONF
    conf([], project="kumoi-test")
    oslo_messaging.set_transport_defaults("nova")
    return conf, kind(conf, url=url, **({"allowed_remote_exmods": ["nova.exception"]}
                                        if kind is oslo_messaging.get_rpc_transport else {}))


class Endpoint:
    target = oslo_messaging.Target(version="6.1")

    def echo(self, context, **args):
        return {"args": args, "context": context}

    def fail(self, context):
        raise InstanceNotFound("Instance abc could not be found.", instance_id="abc")

    def crash(self, context):
        return {}["missing"]

    def slow(self, context, seconds):
        time.sleep(seconds)
        return "done"


def serve(url):
    conf, transport = make_transport(url)
    target = oslo_messaging.Target(topic="pytopic", server="pyhost")
    server = oslo_messaging.get_rpc_server(conf and transport, target, [Endpoint()], executor="threading")
    server.start()
    server.wait()


def make_client(url, timeout=20):
    _, transport = make_transport(url)
    target = oslo_messaging.Target(topic="compute", version="6.0")
    return oslo_messaging.RPCClient(transport, target, timeout=timeout)


def attempt(function, *args, **kwargs):
    try:
        return {"result": function(*args, **kwargs)}
    except Exception as error:
        return {"class": type(error).__name__, "module": type(error).__module__, "message": str(error),
                "code": getattr(error, "kwargs", {}).get("code"), "exc_type": getattr(error, "exc_type", None)}


def call(url):
    client = make_client(url).prepare(server="host1")
    context = {"request_id": "req-py", "is_admin": True}
    answers = [
        attempt(client.call, context, "echo", text="gr\u00fc\u00df \U0001f600", number=1.5, big=2**60),
        attempt(client.call, context, "fail"),
        attempt(client.call, context, "nothing"),
        attempt(client.prepare(version="7.0").call, context, "echo"),
        attempt(client.prepare(namespace="baseapi", version="1.0").call, context, "ping", arg="hello"),
        attempt(client.prepare(timeout=20, call_monitor_timeout=2).call, context, "sleep", ms=3500),
        attempt(client.cast, context, "note"),
        attempt(make_client(url).prepare(fanout=True).cast, context, "note"),
    ]
    for answer in answers:
        print(json.dumps(answer), flush=True)


def bench(url, count):
    client = make_client(url).prepare(server="host1")
    context = {"request_id": "req-py"}
    args = {"text": "x" * 1000}
    client.call(context, "echo", **args)
    times = []
    begin = time.perf_counter()
    for _ in range(count):
        start = time.perf_counter()
        client.call(context, "echo", **args)
        times.append(time.perf_counter() - start)
    total = time.perf_counter() - begin
    times.sort()
    print(json.dumps({"rate": count / total, "p50_us": times[count // 2] * 1e6,
                      "p99_us": times[count * 99 // 100] * 1e6}))


def listen(url, count):
    _, transport = make_transport(url, oslo_messaging.get_notification_transport)

    class Listener:
        def info(self, context, publisher, event_type, payload, metadata):
            print(json.dumps({"publisher": publisher, "event_type": event_type, "payload": payload,
                              "context": context, "timestamp": metadata["timestamp"]}), flush=True)

    targets = [oslo_messaging.Target(topic=topic, exchange="nova")
               for topic in ("notifications", "versioned_notifications")]
    listener = oslo_messaging.get_notification_listener(transport, targets, [Listener()], executor="threading")
    listener.start()
    time.sleep(count)
    listener.stop()


if __name__ == "__main__":
    mode, address = sys.argv[1:3]
    {"server": lambda: serve(address), "client": lambda: call(address),
     "bench": lambda: bench(address, int(sys.argv[3])), "listen": lambda: listen(address, int(sys.argv[3]))}[mode]()
