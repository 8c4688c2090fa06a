#!/usr/bin/env python3
"""What a real GPU's compiler makes of the kernels of a training step, without a GPU: registers, spills, instructions.

Mesa's RADV compiles for a card that is named and need not be there (`RADV_FORCE_FAMILY`). It is AMD's compiler, ACO: it
says nothing about NVIDIA's, but finds what any compiler would do badly.

    benches/gpu/registers.py --lenet target/release/lenet [-- --network resnet --dataset cifar10]

Needs Mesa's Vulkan drivers (Debian: mesa-vulkan-drivers, libvulkan1) and naga (`cargo install naga-cli`).
"""

import argparse
import ctypes
import glob
import os
import pathlib
import re
import subprocess
import sys
import tempfile

FAMILY = "navi21"
POINTER, HANDLE = ctypes.c_void_p, ctypes.c_uint64
COLUMNS = ("VGPRs", "Spilled VGPRs", "Spilled SGPRs", "LDS size", "Instructions", "Branches", "Subgroups per SIMD", "Latency")


def record(*fields):
    """A ctypes structure of (type, name) pairs."""
    return type("Record", (ctypes.Structure,), {"_fields_": [(name, kind) for kind, name in fields]})


u32, i32, size_t = ctypes.c_uint32, ctypes.c_int32, ctypes.c_size_t
HEAD = ((i32, "type"), (POINTER, "next"))
Application = record(*HEAD, (POINTER, "name"), (u32, "version"), (POINTER, "engine"), (u32, "engine_version"), (u32, "api"))
Instance = record(*HEAD, (u32, "flags"), (POINTER, "application"), (u32, "layers"), (POINTER, "p0"), (u32, "extensions"), (POINTER, "p1"))
Queue = record(*HEAD, (u32, "flags"), (u32, "family"), (u32, "count"), (POINTER, "priorities"))
Features = record(*HEAD, (u32, "pipeline_executable_info"))
Device = record(
    *HEAD, (u32, "flags"), (u32, "queues"), (POINTER, "queue"), (u32, "layers"), (POINTER, "p0"), (u32, "extensions"),
    (POINTER, "names"), (POINTER, "features"),
)
Module = record(*HEAD, (u32, "flags"), (size_t, "size"), (POINTER, "code"))
Binding = record((u32, "binding"), (i32, "kind"), (u32, "count"), (u32, "stages"), (POINTER, "samplers"))
SetLayout = record(*HEAD, (u32, "flags"), (u32, "count"), (POINTER, "bindings"))
Layout = record(*HEAD, (u32, "flags"), (u32, "sets"), (POINTER, "set"), (u32, "ranges"), (POINTER, "p0"))
Stage = record(*HEAD, (u32, "flags"), (i32, "stage"), (HANDLE, "module"), (ctypes.c_char_p, "name"), (POINTER, "special"))
Pipeline = record(*HEAD, (u32, "flags"), (Stage, "stage"), (HANDLE, "layout"), (HANDLE, "base"), (i32, "base_index"))
Executable = record(*HEAD, (HANDLE, "pipeline"), (u32, "index"))
Statistic = record(*HEAD, (ctypes.c_char * 256, "name"), (ctypes.c_char * 256, "about"), (i32, "format"), (u32, "pad"), (HANDLE, "value"))

# Numbers of the structures and flags in vulkan_core.h.
STATISTICS_FLAG = 0x40
UNIFORM_BUFFER, STORAGE_BUFFER, COMPUTE_STAGE = 6, 7, 0x20


class Compiler:
    """RADV's null device."""

    def __init__(self):
        os.environ.setdefault("RADV_FORCE_FAMILY", FAMILY)
        if "VK_DRIVER_FILES" not in os.environ and "VK_ICD_FILENAMES" not in os.environ:
            found = glob.glob("/usr/share/vulkan/icd.d/radeon_icd*.json") or ["radeon_icd.json"]
            os.environ["VK_DRIVER_FILES"] = os.environ["VK_ICD_FILENAMES"] = found[0]
        self.vulkan = ctypes.CDLL("libvulkan.so.1")
        application = Application(0, None, None, 1, None, 1, (1 << 22) | (2 << 12))
        self.instance = POINTER()
        self.call("vkCreateInstance", ref(Instance(1, None, 0, address(application), 0, None, 0, None)), None, ref(self.instance))
        count, devices = u32(1), (POINTER * 1)()
        self.vulkan.vkEnumeratePhysicalDevices(self.instance, ref(count), devices)
        priority = ctypes.c_float(1.0)
        queue = Queue(2, None, 0, 0, 1, address(priority))
        names = (ctypes.c_char_p * 1)(b"VK_KHR_pipeline_executable_properties")
        features = Features(1000269000, None, 1)
        device = Device(3, address(features), 0, 1, address(queue), 0, None, 1, address(names), None)
        self.device = POINTER()
        self.call("vkCreateDevice", POINTER(devices[0]), ref(device), None, ref(self.device))
        find = self.vulkan.vkGetDeviceProcAddr
        find.restype, find.argtypes = POINTER, [POINTER, ctypes.c_char_p]
        kind = ctypes.CFUNCTYPE(i32, POINTER, POINTER, POINTER, POINTER)
        self.statistics_of = kind(find(self.device, b"vkGetPipelineExecutableStatisticsKHR"))

    def call(self, name, *arguments):
        result = getattr(self.vulkan, name)(*arguments)
        if result != 0:
            sys.exit(f"{name} failed with {result}: is Mesa's RADV installed?")

    def statistics(self, words, entry_point, uniforms):
        """Name to value, for one entry point of a SPIR-V module."""
        bindings = (Binding * 16)(*[
            Binding(index, UNIFORM_BUFFER if index in uniforms else STORAGE_BUFFER, 1, COMPUTE_STAGE, None) for index in range(16)
        ])
        set_layout, layout, module, pipeline = HANDLE(), HANDLE(), HANDLE(), HANDLE()
        self.call("vkCreateDescriptorSetLayout", self.device, ref(SetLayout(32, None, 0, 16, address(bindings))), None, ref(set_layout))
        sets = (HANDLE * 1)(set_layout.value)
        self.call("vkCreatePipelineLayout", self.device, ref(Layout(30, None, 0, 1, address(sets), 0, None)), None, ref(layout))
        code = ctypes.create_string_buffer(words, len(words))
        self.call("vkCreateShaderModule", self.device, ref(Module(16, None, 0, len(words), address(code))), None, ref(module))
        stage = Stage(18, None, 0, COMPUTE_STAGE, module.value, entry_point.encode(), None)
        wanted = Pipeline(29, None, STATISTICS_FLAG, stage, layout.value, 0, -1)
        self.call("vkCreateComputePipelines", self.device, HANDLE(0), u32(1), ref(wanted), None, ref(pipeline))
        executable, count = Executable(1000269003, None, pipeline.value, 0), u32()
        self.statistics_of(self.device, address(executable), address(count), None)
        found = (Statistic * count.value)()
        for statistic in found:
            statistic.type = 1000269004
        self.statistics_of(self.device, address(executable), address(count), address(found))
        return {statistic.name.decode(): statistic.value for statistic in found}


def ref(value):
    return ctypes.byref(value)


def address(value):
    return ctypes.addressof(value)


def compile_wgsl(path):
    """SPIR-V of a kernel that `lenet plan --wgsl` wrote, its entry point and the numbers of its uniforms."""
    text = path.read_text()
    head = re.match(r"// \S+\.(\w+); override constants: (.*)", text)
    entry_point, constants = head.group(1), head.group(2)
    command = ["naga", str(path), "out.spv", "--entry-point", entry_point]
    if constants != "none":
        for pair in constants.split(", "):
            command += ["--override", pair.replace(" ", "")]
    uniforms = {int(number) for number in re.findall(r"@binding\((\d+)\) var<uniform>", text)}
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
        if done.returncode != 0:
            sys.exit(f"{path.name}: {done.stderr or done.stdout}")
        return (pathlib.Path(folder) / "out.spv").read_bytes(), entry_point, uniforms


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lenet", default="target/release/lenet", help="the program")
    parser.add_argument("step", nargs="*", help="options of `lenet plan`, after --")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([options.lenet, "plan", "--device", "gpu", "--wgsl", folder, *options.step], check=True, stdout=subprocess.DEVNULL)
        compiler = Compiler()
        print(f"compiled by RADV for {os.environ['RADV_FORCE_FAMILY']}, naga's bounds checks off\n")
        print("| kernel | " + " | ".join(COLUMNS) + " |\n|" + " --- |" * (len(COLUMNS) + 1))
        spilling = []
        for path in sorted(pathlib.Path(folder).resolve().glob("*.wgsl")):
            found = compiler.statistics(*compile_wgsl(path))
            print(f"| {path.stem} | " + " | ".join(str(found.get(column, "-")) for column in COLUMNS) + " |")
            if found.get("Spilled VGPRs", 0) > 0:
                spilling.append(path.stem)
    if spilling:
        sys.exit(f"registers are spilled in {', '.join(spilling)}")


if __name__ == "__main__":
    main()
