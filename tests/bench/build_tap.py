"""When a node got its builds and when it reported them done, seen from outside: a queue of our own gets copies of the
messages that go to the nodes and to nova-conductor, and each is stamped when it comes. Equal for every kind of node."""
import json
import threading
import time

import amqp

EXCHANGE = "nova"


class BuildTap:
    def __init__(self, address, user, password, vhost, hosts):
        self.begun, self.active, self.finished = {}, {}, {}  # server -> monotonic seconds
        self.calls = {}  # server -> messages to conductor about it
        self._connection = amqp.Connection(host=address, userid=user, password=password, virtual_host=vhost,
                                           login_method="PLAIN")
        self._connection.connect()
        channel = self._connection.channel()
        queue = channel.queue_declare(exclusive=True, auto_delete=True).queue
        for key in ("conductor", *(f"compute.{host}" for host in hosts)):
            channel.queue_bind(queue, EXCHANGE, key)
        channel.basic_consume(queue, no_ack=True, callback=self._take)
        self._running = True
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self):
        while self._running:
            try:
                self._connection.drain_events(timeout=0.5)
            except (TimeoutError, OSError):
                continue

    def end(self):
        self._running = False
        self._thread.join()
        self._connection.close()

    def _take(self, message):
        now = time.monotonic()
        content = json.loads(json.loads(message.body)["oslo.message"])
        method, args = content.get("method"), content.get("args", {})
        if method == "build_and_run_instance":
            self.begun[args["instance"]["nova_object.data"]["uuid"]] = now
        elif method == "object_action" and args["objinst"]["nova_object.name"] == "Instance":
            data = args["objinst"]["nova_object.data"]
            self.calls[data["uuid"]] = self.calls.get(data["uuid"], 0) + 1
            if args["objmethod"] == "save" and data.get("vm_state") == "active" and data.get("task_state") is None:
                self.active.setdefault(data["uuid"], now)
        elif method == "object_class_action_versions" and args["objname"] == "InstanceActionEvent":
            if args["objmethod"] == "event_finish_with_failure" and "build" in args["args"][1]:
                self.finished[args["args"][0]] = now

    def build_seconds(self, servers):
        """From the build's arrival to the message that says ACTIVE, and to the next one after that was saved."""
        done = [one for one in servers if one in self.begun and one in self.active and one in self.finished]
        return ([self.active[one] - self.begun[one] for one in done], [self.finished[one] - self.begun[one] for one in done])
