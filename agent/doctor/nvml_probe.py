"""The process in which the doctor asks NVML: a script that prints one line of JSON and ends.

A call of the library may hang or crash, and then takes this process with it, not the doctor. It asks of every
GPU every field that the sensor reads, and says how each was answered. It wakes a GPU that sleeps.
"""

import json
import sys
from collections.abc import Callable
from typing import Any, Final

OK: Final = "ok"


def main() -> None:
    """Ask, print, and end."""
    import pynvml

    from agent.sensors.nvml_fields import GPU_FIELDS

    words = {
        pynvml.NVML_ERROR_NOT_SUPPORTED: "not supported",
        pynvml.NVML_ERROR_FUNCTION_NOT_FOUND: "not known to this driver",
        pynvml.NVML_ERROR_ARGUMENT_VERSION_MISMATCH: "not known to this driver",
        pynvml.NVML_ERROR_NO_PERMISSION: "no permission",
        pynvml.NVML_ERROR_GPU_IS_LOST: "lost",
        pynvml.NVML_ERROR_RESET_REQUIRED: "lost",
    }

    def ask(call: Callable[..., Any], *arguments: object) -> tuple[Any, str]:
        try:
            return call(*arguments), OK
        except pynvml.NVMLError as error:
            return None, words.get(error.value, str(error))
        except UnicodeDecodeError:
            return None, "not text"

    def look(index: int) -> dict[str, Any]:
        handle, answer = ask(pynvml.nvmlDeviceGetHandleByIndex, index)
        if answer != OK:
            return {"index": index, "problem": answer}
        answers = {field.members[0]: ask(field.read, handle)[1] for field in GPU_FIELDS}
        return {
            "index": index,
            "uuid": ask(pynvml.nvmlDeviceGetUUID, handle)[0],
            "name": ask(pynvml.nvmlDeviceGetName, handle)[0],
            "persistence": ask(pynvml.nvmlDeviceGetPersistenceMode, handle)[0],
            "problem": "lost" if "lost" in answers.values() else None,
            "fields": answers,
        }

    try:
        pynvml.nvmlInit()
        count = pynvml.nvmlDeviceGetCount()
    except pynvml.NVMLError as error:
        print(json.dumps({"problem": str(error)}))  # noqa: T201 - its answer
        return
    cuda = ask(pynvml.nvmlSystemGetCudaDriverVersion_v2)[0]
    found = {
        "driver": ask(pynvml.nvmlSystemGetDriverVersion)[0],
        "nvml": ask(pynvml.nvmlSystemGetNVMLVersion)[0],
        "cuda": f"{cuda // 1000}.{cuda % 1000 // 10}" if cuda else None,
        "gpus": [look(index) for index in range(count)],
    }
    print(json.dumps(found))  # noqa: T201


if __name__ == "__main__":
    sys.path.extend(sys.argv[1:])
    main()
