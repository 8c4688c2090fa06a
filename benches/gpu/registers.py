#!/usr/bin/env python3
"""What a real GPU's compiler makes of the kernels of a training step, without a GPU: registers, spills, instructions.

Mesa's RADV compiles for a card that is named and need not be there (`RADV_FORCE_FAMILY`). It is AMD's compiler, ACO: it
says nothing about NVIDIA's, but finds what any compiler would do badly. The last column is of the innermost loop with the
most multiply-adds: its instructions for 64 of them.

    benches/gpu/registers.py --lenet target/release/lenet [-- --network resnet --dataset cifar10]
    WGRAD_PIN=1 cargo test --test all shaders::registers     # writes tests/golden/registers.md, which that test compares
    benches/gpu/registers.py --installed --modules FOLDER    # the driver of the card that is there

Needs Mesa's Vulkan drivers (Debian: mesa-vulkan-drivers, libvulkan1) and, for `--lenet`, naga (`cargo install naga-cli`).
With `--modules` it takes SPIR-V from a folder: `index.json` lists [name, file, entry point, [numbers of uniforms]]. Ends with
77 where Mesa is missing.
"""

import argparse
import concurrent.futures
import ctypes
import glob
import json
import os
import pathlib
import re
import subprocess
import sys
import tempfile

FAMILY = "navi21"
POINTER, HANDLE = ctypes.c_void_p, ctypes.c_uint64
COLUMNS = ("VGPRs", "Spilled VGPRs", "Spilled SGPRs", "LDS size", "Instructions", "Branches", "Subgroups per SIMD")
# NVIDIA's compiler also spills into workgroup memory: where a kernel has more of it than it declares.
COLUMNS_OF_NVIDIA = ("Register Count", "Stack Size", "Shared Memory Size", "Binary Size")
MISSING = 77


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

Text = record(*HEAD, (ctypes.c_char * 256, "name"), (ctypes.c_char * 256, "about"), (u32, "is_text"), (size_t, "size"), (POINTER, "data"))

# Numbers of the structures and flags in vulkan_core.h.
STATISTICS_FLAG, TEXTS_FLAG = 0x40, 0x80
UNIFORM_BUFFER, STORAGE_BUFFER, COMPUTE_STAGE = 6, 7, 0x20


class Compiler:
    """RADV's null device, or the first card that is installed."""

    def __init__(self, is_installed):
        if not is_installed:
            os.environ.setdefault("RADV_FORCE_FAMILY", FAMILY)
        if not is_installed and "VK_DRIVER_FILES" not in os.environ and "VK_ICD_FILENAMES" not in os.environ:
            found = glob.glob("/usr/share/vulkan/icd.d/radeon_icd*.json") or ["radeon_icd.json"]
            os.environ["VK_DRIVER_FILES"] = os.environ["VK_ICD_FILENAMES"] = found[0]
        try:
            self.vulkan = ctypes.CDLL("libvulkan.so.1")
        except OSError as error:
            missing(str(error))
        application = Application(0, None, None, 1, None, 1, (1 << 22) | (2 << 12))
        self.instance = POINTER()
        self.call("vkCreateInstance", ref(Instance(1, None, 0, address(application), 0, None, 0, None)), None, ref(self.instance))
        count, devices = u32(1), (POINTER * 1)()
        self.call("vkEnumeratePhysicalDevices", self.instance, ref(count), devices)
        if count.value == 0:
            missing("no device")
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
        self.texts_of = kind(find(self.device, b"vkGetPipelineExecutableInternalRepresentationsKHR"))
        self.name = self.device_name(POINTER(devices[0]))

    def device_name(self, device):
        """As "AMD RADV NAVI21, Mesa 22.3.6", or "NVIDIA H200, driver 580.159.4"."""
        properties = ctypes.create_string_buffer(1024)
        self.vulkan.vkGetPhysicalDeviceProperties(device, properties)
        version = u32.from_buffer(properties, 4).value
        name = properties.raw[20:276].split(b"\0")[0].decode()
        if "NVIDIA" in name:
            return f"{name}, driver {version >> 22}.{version >> 14 & 0xFF}.{version >> 6 & 0xFF}"
        return f"{name}, Mesa {version >> 22}.{version >> 12 & 0x3FF}.{version & 0xFFF}"

    def call(self, name, *arguments):
        result = getattr(self.vulkan, name)(*arguments)
        if result != 0:
            missing(f"{name} failed with {result}")

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
        wanted = Pipeline(29, None, STATISTICS_FLAG | TEXTS_FLAG, stage, layout.value, 0, -1)
        self.call("vkCreateComputePipelines", self.device, HANDLE(0), u32(1), ref(wanted), None, ref(pipeline))
        executable, count = Executable(1000269003, None, pipeline.value, 0), u32()
        self.statistics_of(self.device, address(executable), address(count), None)
        found = (Statistic * count.value)()
        for statistic in found:
            statistic.type = 1000269004
        self.statistics_of(self.device, address(executable), address(count), address(found))
        return {statistic.name.decode(): statistic.value for statistic in found} | {"loop": loop_cost(self.assembly(executable))}

    def assembly(self, executable):
        """The instructions of a pipeline, as text."""
        count = u32()
        self.texts_of(self.device, address(executable), address(count), None)
        found = (Text * count.value)()
        for text in found:
            text.type = 1000269005
        self.texts_of(self.device, address(executable), address(count), address(found))
        buffers = [ctypes.create_string_buffer(text.size) for text in found]
        for text, buffer in zip(found, buffers):
            text.data = ctypes.cast(buffer, POINTER)
        self.texts_of(self.device, address(executable), address(count), address(found))
        return next((buffer.value.decode() for text, buffer in zip(found, buffers) if text.name == b"Assembly"), "")


def loop_cost(assembly):
    """Instructions for 64 multiply-adds in the innermost loop that has the most of these, as text."""
    parts = re.split(r"^(BB\d+):\n", assembly, flags=re.M)
    places = {name: place for place, name in enumerate(parts[1::2])}
    blocks = [[line for line in block.splitlines() if ";" in line] for block in parts[2::2]]
    targets = [(places[target], end) for end, block in enumerate(blocks) for target in re.findall(r"branch\w* (BB\d+)", "\n".join(block))]
    loops = {(first, last) for first, last in targets if first <= last}
    inside = lambda one, other: one != other and one[0] <= other[0] and other[1] <= one[1]
    innermost = [loop for loop in loops if not any(inside(loop, other) for other in loops)]
    best = (0, 0)
    for first, last in innermost:
        lines = [line for block in blocks[first : last + 1] for line in block]
        best = max(best, (sum(bool(re.search(r"v_(pk_)?(fma|mac|mad)\w*_f32", line)) for line in lines), len(lines)))
    return f"{64 * best[1] / best[0]:.0f}" if best[0] >= 8 else "-"


def missing(reason):
    print(f"no compiler that tells (Mesa's RADV, or with --installed that of a card): {reason}", file=sys.stderr)
    sys.exit(MISSING)


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


def from_program(options):
    """The kernels of a step as `lenet plan` writes them: (name, SPIR-V, entry point, numbers of uniforms)."""
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([options.lenet, "plan", "--device", "gpu", "--wgsl", folder, *options.step], check=True, stdout=subprocess.DEVNULL)
        return [(path.stem, *compile_wgsl(path)) for path in sorted(pathlib.Path(folder).resolve().glob("*.wgsl"))]


def from_folder(folder):
    index = json.loads((folder / "index.json").read_text())
    return [(name, (folder / file).read_bytes(), entry_point, set(uniforms)) for name, file, entry_point, uniforms in index]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lenet", default="target/release/lenet", help="the program")
    parser.add_argument("--modules", type=pathlib.Path, help="a folder of SPIR-V modules, instead of the program's")
    parser.add_argument("--installed", action="store_true", help="ask the driver of the first card that is there")
    parser.add_argument("step", nargs="*", help="options of `lenet plan`, after --")
    options = parser.parse_args()
    compiler = Compiler(options.installed)
    print(f"Compiled for {compiler.name}.\n")
    columns = COLUMNS_OF_NVIDIA if options.installed and "NVIDIA" in compiler.name else COLUMNS
    print("| kernel | " + " | ".join(columns) + " | Loop / 64 FMA |\n|" + " --- |" * (len(columns) + 2))
    spilling = []
    kernels = from_folder(options.modules) if options.modules else from_program(options)
    # The driver compiles outside of Python's lock.
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        all_found = list(pool.map(lambda kernel: compiler.statistics(*kernel[1:]), kernels))
    for (name, *_), found in zip(kernels, all_found):
        print(f"| {name} | " + " | ".join(str(found.get(column, "-")) for column in (*columns, "loop")) + " |")
        if found.get("Spilled VGPRs", 0) > 0:
            spilling.append(name)
    if spilling:
        sys.exit(f"registers are spilled in {', '.join(spilling)}")


if __name__ == "__main__":
    main()
