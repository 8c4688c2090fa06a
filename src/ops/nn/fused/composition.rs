//! What a fused op computes, as the ops that it stands for: they infer its types, run in its place on the CPU, and so are
//! the reference that its kernels are held against.

use std::collections::HashMap;

use crate::graph::{Graph, NodeKind, Value};
use crate::ops::cpu::{CpuContext, Float, Memory, Operands};
use crate::ops::{Op, Operation};
use crate::tensor::{DType, Tensor, TensorType};

/// A value within a composition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Source {
    /// An input of the whole.
    Input(usize),
    /// A tensor that is part of it.
    Constant(usize),
    /// An output of a part.
    Made { part: usize, output: usize },
}

/// One of the ops.
#[derive(Clone, Debug)]
struct Part {
    op: Op,
    inputs: Vec<Source>,
    types: Vec<TensorType>,
}

/// Ops in order, from inputs to outputs.
#[derive(Clone, Debug)]
pub(crate) struct Composition {
    inputs: Vec<TensorType>,
    constants: Vec<Tensor>,
    constant_types: Vec<TensorType>,
    parts: Vec<Part>,
    outputs: Vec<Source>,
}

/// Where a composition ends.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Ends<'a> {
    /// At these values.
    Values(&'a [Value]),
    /// At a node that only updates states.
    Update(usize),
}

impl Composition {
    /// The ops of a graph that lead from these inputs to the ends.
    ///
    /// # Panics
    /// If the ends depend on anything else.
    pub fn between(graph: &Graph, inputs: &[Value], ends: Ends<'_>) -> Composition {
        let mut composition = Composition {
            inputs: inputs.iter().map(|&input| graph.ty(input).clone()).collect(),
            constants: Vec::new(),
            constant_types: Vec::new(),
            parts: Vec::new(),
            outputs: Vec::new(),
        };
        let mut known: HashMap<Value, Source> =
            inputs.iter().enumerate().map(|(index, &input)| (input, Source::Input(index))).collect();
        match ends {
            Ends::Values(outputs) => {
                let outputs = outputs.iter().map(|&output| composition.add(graph, output, &mut known)).collect();
                composition.outputs = outputs;
            }
            Ends::Update(node) => composition.add_node(graph, node, &mut known),
        }
        composition
    }

    fn add(&mut self, graph: &Graph, value: Value, known: &mut HashMap<Value, Source>) -> Source {
        if let Some(&source) = known.get(&value) {
            return source;
        }
        if let NodeKind::Constant(tensor) = &graph.node(value).kind {
            self.constants.push(tensor.clone());
            self.constant_types.push(tensor.ty());
            known.insert(value, Source::Constant(self.constants.len() - 1));
        } else {
            self.add_node(graph, value.node as usize, known);
        }
        known[&value]
    }

    fn add_node(&mut self, graph: &Graph, index: usize, known: &mut HashMap<Value, Source>) {
        let node = &graph.nodes[index];
        let NodeKind::Op(op) = &node.kind else { panic!("{:?} is no input of the composition", node.kind) };
        let inputs = node.inputs.iter().map(|&input| self.add(graph, input, known)).collect();
        let part = self.parts.len();
        self.parts.push(Part { op: op.clone(), inputs, types: node.types.clone() });
        for output in 0..node.types.len() {
            known.insert(graph.value(index, output), Source::Made { part, output });
        }
    }

    /// The inputs that a part updates in place, in rising order.
    pub fn updates(&self) -> Vec<usize> {
        let of = |part: &Part| -> Vec<usize> {
            let index = |place: usize| match self.root(part.inputs[place]) {
                Source::Input(index) => index,
                Source::Made { .. } | Source::Constant(_) => panic!("a part updates what another made"),
            };
            part.op.updates().into_iter().map(index).collect()
        };
        let mut updates: Vec<usize> = self.parts.iter().flat_map(of).collect();
        updates.sort_unstable();
        updates
    }

    /// Types of the inputs.
    pub fn input_types(&self) -> &[TensorType] {
        &self.inputs
    }

    /// Types of the outputs.
    pub fn output_types(&self) -> Vec<TensorType> {
        self.outputs.iter().map(|&output| self.ty(output).clone()).collect()
    }

    /// The ops with the types of their inputs, in order.
    pub fn ops(&self) -> impl Iterator<Item = (&Op, Vec<TensorType>)> {
        self.parts.iter().map(|part| (&part.op, part.inputs.iter().map(|&input| self.ty(input).clone()).collect()))
    }

    /// Floating-point operations of all parts.
    pub fn flops(&self) -> u64 {
        let flops = |(part, (op, inputs)): (&Part, (&Op, Vec<TensorType>))| op.flops(&inputs, &part.types);
        self.parts.iter().zip(self.ops()).map(flops).sum()
    }

    /// As [`Operation::term_size`], over the parts whose operands are inputs of the whole, or copies of parts of them.
    pub fn term_size(&self, largest: &[f64]) -> f64 {
        let mut made: HashMap<Source, f64> =
            largest.iter().enumerate().map(|(index, &largest)| (Source::Input(index), largest)).collect();
        let mut size: f64 = 0.0;
        for (index, part) in self.parts.iter().enumerate() {
            let known: Option<Vec<f64>> = part.inputs.iter().map(|input| made.get(input).copied()).collect();
            let Some(known) = known else { continue };
            size = size.max(part.op.term_size(&known));
            if matches!(part.op, Op::Copy(_) | Op::Concat(_) | Op::Pad(_)) || part.op.is_alias() {
                let largest = known.into_iter().fold(0.0, f64::max);
                made.insert(Source::Made { part: index, output: 0 }, largest);
            }
        }
        size
    }

    fn ty(&self, source: Source) -> &TensorType {
        match source {
            Source::Input(index) => &self.inputs[index],
            Source::Constant(index) => &self.constant_types[index],
            Source::Made { part, output } => &self.parts[part].types[output],
        }
    }

    /// The value whose memory a value has.
    fn root(&self, mut source: Source) -> Source {
        while let Source::Made { part, .. } = source
            && self.parts[part].op.is_alias()
        {
            source = self.parts[part].inputs[0];
        }
        source
    }

    /// Runs the parts in turn. What passes from one to the next is allocated: this is the reference, and no device runs
    /// a fused op of a training step in this way.
    #[expect(unsafe_code, reason = "operands lie in memory that several steps share")]
    pub fn run<F: Float>(&self, ctx: &mut CpuContext<'_, F>) {
        let mut floats: Vec<Vec<F>> = Vec::new();
        let mut integers: Vec<Vec<u32>> = Vec::new();
        let mut memory: HashMap<Source, Memory> = HashMap::new();
        let updates = self.updates();
        for index in 0..self.inputs.len() {
            let is_updated = updates.contains(&index);
            let input = if is_updated { ctx.updated_memory(index) } else { ctx.input_memory(index) };
            memory.insert(Source::Input(index), input);
        }
        for (index, tensor) in self.constants.iter().enumerate() {
            let constant = match tensor.dtype() {
                DType::F32 => {
                    floats.push(tensor.to_f64_vec().into_iter().map(F::from_f64).collect());
                    Memory::of(floats.last_mut().expect("pushed above"), DType::F32)
                }
                DType::U32 | DType::U8 => {
                    // Whole numbers in u32's range.
                    integers.push(tensor.to_f64_vec().into_iter().map(|x| x as u32).collect());
                    Memory::of(integers.last_mut().expect("pushed above"), DType::U32)
                }
            };
            memory.insert(Source::Constant(index), constant);
        }
        for (index, &output) in self.outputs.iter().enumerate() {
            let before = memory.insert(self.root(output), ctx.output_memory(index));
            assert!(before.is_none(), "each output has memory of its own");
        }
        for (part, Part { op, inputs, types }) in self.parts.iter().enumerate() {
            if op.is_alias() {
                continue;
            }
            for (output, ty) in types.iter().enumerate() {
                memory.entry(Source::Made { part, output }).or_insert_with(|| {
                    let num_elems = ty.shape.num_elems();
                    // The elements of a vector stay where they are as it moves.
                    match ty.dtype {
                        DType::F32 => {
                            floats.push(vec![F::ZERO; num_elems]);
                            Memory::of(floats.last_mut().expect("pushed above"), DType::F32)
                        }
                        DType::U32 | DType::U8 => {
                            integers.push(vec![0; num_elems]);
                            Memory::of(integers.last_mut().expect("pushed above"), DType::U32)
                        }
                    }
                });
            }
            let input_types: Vec<TensorType> = inputs.iter().map(|&input| self.ty(input).clone()).collect();
            let from: Vec<Memory> = inputs.iter().map(|&input| memory[&self.root(input)]).collect();
            let to: Vec<Memory> = (0..types.len()).map(|output| memory[&Source::Made { part, output }]).collect();
            let mut updates = op.updates();
            updates.sort_unstable();
            let operands = Operands {
                input_types: &input_types,
                output_types: types,
                inputs: &from,
                outputs: &to,
                updates: &updates,
                first_row: 0,
                batch_size: None,
            };
            let mut taken = vec![false; types.len() + updates.len()];
            // SAFETY: the memory is that of the operands of the op that this one is a part of, by the contract of its own
            // context, or of vectors above, which live as long and which nothing else uses. A part's outputs
            // are no inputs of its own, and what it updates is updated by the whole.
            op.run(&mut unsafe { CpuContext::<F>::new(operands, &mut taken) });
        }
    }
}
