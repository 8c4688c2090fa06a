// temporary: time of pipeline creation: zz_pipe FILE ENTRY [NAME=VALUE…]
use std::time::Instant;
fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let source = std::fs::read_to_string(&args[0]).unwrap().replace("enable subgroups;", "");
    let constants: Vec<(&str, f64)> = args[2..]
        .iter()
        .map(|a| {
            let (n, v) = a.split_once('=').unwrap();
            (n, v.parse().unwrap())
        })
        .collect();
    let instance = wgpu::Instance::new(wgpu::InstanceDescriptor {
        backends: wgpu::Backends::VULKAN,
        ..wgpu::InstanceDescriptor::new_without_display_handle()
    });
    let adapter = pollster::block_on(instance.enumerate_adapters(wgpu::Backends::all())).remove(0);
    let features = adapter.features() & wgpu::Features::SUBGROUP;
    let (device, _) = pollster::block_on(
        adapter.request_device(&wgpu::DeviceDescriptor { required_features: features, ..Default::default() }),
    )
    .unwrap();
    for checks in [true, false] {
        let d = wgpu::ShaderModuleDescriptor { label: None, source: wgpu::ShaderSource::Wgsl(source.as_str().into()) };
        #[allow(unsafe_code)]
        let module = if checks {
            device.create_shader_module(d)
        } else {
            unsafe { device.create_shader_module_trusted(d, wgpu::ShaderRuntimeChecks::unchecked()) }
        };
        let start = Instant::now();
        let _p = device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
            label: None,
            layout: None,
            module: &module,
            entry_point: Some(&args[1]),
            compilation_options: wgpu::PipelineCompilationOptions {
                constants: &constants,
                zero_initialize_workgroup_memory: false,
            },
            cache: None,
        });
        println!("{} {} checks {checks}: {:.3} s", args[0], args[1], start.elapsed().as_secs_f64());
    }
}
