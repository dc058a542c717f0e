"""The processor time of a service: of the process that answers, of its busiest thread, and of its image workers."""

from dataclasses import dataclass

import psutil


@dataclass(frozen=True)
class CoreSeconds:
    """Spent so far, in seconds of one core. server: by the process that answers. threads: of it, by thread.

    workers: by the processes that it started, as far as they still live.
    """

    server: float
    threads: dict[int, float]
    workers: float

    def since(self, before: "CoreSeconds") -> "CoreSeconds":
        """What was spent after an earlier reading."""
        threads = {number: spent - before.threads.get(number, 0.0) for number, spent in self.threads.items()}
        return CoreSeconds(self.server - before.server, threads, max(0.0, self.workers - before.workers))

    def per(self, images: int) -> dict[str, float]:
        """Per image. The busiest thread is the device's where there is one: it gives out the device's work."""
        busiest = max(self.threads.values(), default=0.0)
        spent = {"core_s": self.server + self.workers, "worker_core_s": self.workers, "server_core_s": self.server}
        spent["device_thread_core_s"] = busiest
        return {f"{name}_per_image": round(seconds / max(1, images), 5) for name, seconds in spent.items()}


def core_seconds(pid: int) -> CoreSeconds:
    """Of a process and those that it started. Raises psutil.NoSuchProcess if it has ended."""
    process = psutil.Process(pid)
    workers = 0.0
    for each in process.children(recursive=True):
        try:
            workers += _total(each)
        except psutil.NoSuchProcess:
            continue
    threads = {each.id: each.user_time + each.system_time for each in process.threads()}
    return CoreSeconds(_total(process), threads, workers)


def _total(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)
