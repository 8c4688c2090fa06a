//! Kernels whose loops grow with a shape say how many iterations they take. `Dispatch::new` asks every op; this finds those
//! that answered "short" and are not, by what the loops' conditions are made of.

use std::collections::{BTreeMap, BTreeSet};

use naga::{Block, Expression, Function, Handle, Module, Statement, TypeInner};
use wgrad::ops::kernel::Dispatch;
use wgrad::ops::shaders;

use super::kernels::dispatches;

/// Fields of `Params` that are no larger than a number of dimensions.
const SHORT_FIELDS: [&str; 3] = ["rank", "kept_rank", "reduced_rank"];

/// What is wrong with an entry point that says its loops are short: the first loop that is not.
fn long_loop(module: &Module, entry_point: &str) -> Option<String> {
    let entry = module.entry_points.iter().find(|entry| entry.name == entry_point).expect("the entry point is there");
    let mut functions = vec![&entry.function];
    let mut seen = BTreeSet::new();
    while let Some(function) = functions.pop() {
        let mut found = None;
        walk(&function.body, &mut |statement| match statement {
            Statement::Loop { body, .. } if !ends_soon(module, function, body) => {
                let name = function.name.as_deref().unwrap_or(entry_point);
                found = Some(format!("a loop in {name} ends by more than constants and numbers of dimensions"));
            }
            Statement::Call { function, .. } if seen.insert(function.index()) => {
                functions.push(&module.functions[*function]);
            }
            _ => {}
        });
        if found.is_some() {
            return found;
        }
    }
    None
}

fn walk<'a>(block: &'a Block, visit: &mut impl FnMut(&'a Statement)) {
    for statement in block {
        visit(statement);
        match statement {
            Statement::Block(block) => walk(block, visit),
            Statement::If { accept, reject, .. } => {
                walk(accept, visit);
                walk(reject, visit);
            }
            Statement::Switch { cases, .. } => cases.iter().for_each(|case| walk(&case.body, visit)),
            Statement::Loop { body, continuing, .. } => {
                walk(body, visit);
                walk(continuing, visit);
            }
            _ => {}
        }
    }
}

/// Whether a `for` loop's condition, which naga puts first in its body, compares a counter with what is small.
fn ends_soon(module: &Module, function: &Function, body: &Block) -> bool {
    let condition = body.iter().find_map(|statement| match statement {
        Statement::If { condition, .. } => Some(*condition),
        _ => None,
    });
    let mut counters = BTreeSet::new();
    condition.is_some_and(|condition| is_small(module, function, condition, &mut counters)) && counters.len() <= 1
}

/// Whether an expression is made of constants, fields that are small, and variables, which are collected.
fn is_small(
    module: &Module,
    function: &Function,
    expression: Handle<Expression>,
    counters: &mut BTreeSet<usize>,
) -> bool {
    let mut small = |expression| is_small(module, function, expression, counters);
    match function.expressions[expression] {
        Expression::Literal(_) | Expression::Constant(_) | Expression::Override(_) => true,
        Expression::Binary { left, right, .. } => small(left) && small(right),
        Expression::Unary { expr, .. } => small(expr),
        Expression::Load { pointer } => small(pointer),
        Expression::LocalVariable(variable) => {
            counters.insert(variable.index());
            true
        }
        Expression::AccessIndex { base, index } => match function.expressions[base] {
            Expression::GlobalVariable(global) => match &module.types[module.global_variables[global].ty].inner {
                TypeInner::Struct { members, .. } => {
                    let name = members[index as usize].name.as_deref();
                    name.is_some_and(|name| SHORT_FIELDS.contains(&name))
                }
                _ => false,
            },
            _ => false,
        },
        _ => false,
    }
}

fn parse(source: &str) -> Module {
    naga::front::wgsl::parse_str(source).unwrap_or_else(|error| panic!("{}", error.emit_to_string(source)))
}

#[test]
fn kernels_that_say_their_loops_are_short_have_no_loop_that_grows() {
    let mut modules: BTreeMap<String, Module> = BTreeMap::new();
    let (mut checked, mut stated) = (BTreeSet::new(), BTreeSet::new());
    let mut failures = BTreeSet::new();
    for Dispatch { kernel, loop_iterations, .. } in dispatches() {
        if loop_iterations.is_some() {
            stated.insert(kernel.label());
            continue;
        }
        if checked.insert((kernel.label(), kernel.needs_subgroups)) {
            let module = modules.entry(kernel.source.to_string()).or_insert_with(|| parse(&kernel.source));
            failures.extend(long_loop(module, &kernel.entry_point).map(|why| format!("{}: {why}", kernel.label())));
        }
    }
    assert!(failures.is_empty(), "{failures:#?}");
    // Neither half of the test is empty.
    assert!(checked.len() >= 9 && stated.len() >= 20, "{checked:?} {stated:?}");
}

/// The check can fail: on every shader it finds the loops that are known to grow.
#[test]
fn loops_that_grow_are_found() {
    for (name, entry_point) in [
        ("argmax", "group"),
        ("avg_pool2d", "backward"),
        ("batch_norm2d", "merge"),
        ("conv2d", "strips"),
        ("conv2d_grad_weight", "sum_slices"),
        ("cross_entropy", "each"),
        ("gather", "forward"),
        ("matmul", "registers_vec4"),
        ("max_pool2d", "forward"),
        ("metrics", "update"),
        ("reduce", "slice"),
        ("softmax", "rows"),
        ("tensor_stats", "combine"),
    ] {
        let shader = shaders().into_iter().find(|shader| shader.name == name).expect("there is such a shader");
        assert!(long_loop(&parse(shader.source), entry_point).is_some(), "{name}.{entry_point}");
    }
    let elementwise = shaders().into_iter().find(|shader| shader.name == "elementwise").expect("there is one");
    assert_eq!(long_loop(&parse(elementwise.source), "binary"), None);
}
