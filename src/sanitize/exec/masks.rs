//! Which invocations are active. Each mask holds all bits or none for an invocation; those of enclosing branches,
//! loops and calls wait on a stack.

use super::{Block, WIDTH};

/// Conditions under which an invocation is active: the branches it took, and that it has not left the loop, its
/// iteration or the function.
#[derive(Debug)]
pub(in crate::sanitize) struct Masks {
    /// Those that exist: the last block may be larger than the workgroup.
    all: Vec<Block>,
    active: Vec<Block>,
    condition: Vec<Block>,
    in_loop: Vec<Block>,
    in_iteration: Vec<Block>,
    in_function: Vec<Block>,
    stack: Vec<Block>,
    num_active: u32,
    num_all: u32,
}

const NONE: Block = [0; WIDTH];
const EVERY: Block = [u32::MAX; WIDTH];

impl Masks {
    pub fn new(lanes: u32) -> Masks {
        let mut all = Vec::new();
        for start in (0..lanes as usize).step_by(WIDTH) {
            let mut block = NONE;
            block[..(lanes as usize - start).min(WIDTH)].fill(u32::MAX);
            all.push(block);
        }
        let every = vec![EVERY; all.len()];
        Masks {
            active: all.clone(),
            condition: all.clone(),
            in_loop: every.clone(),
            in_iteration: every.clone(),
            in_function: every,
            stack: Vec::new(),
            num_active: lanes,
            num_all: lanes,
            all,
        }
    }

    pub fn reset(&mut self) {
        self.condition.copy_from_slice(&self.all);
        self.in_loop.fill(EVERY);
        self.in_iteration.fill(EVERY);
        self.in_function.fill(EVERY);
        self.stack.clear();
        self.update();
    }

    /// How many invocations are active.
    pub fn active(&self) -> u32 {
        self.num_active
    }

    pub fn is_full(&self) -> bool {
        self.num_active == self.num_all
    }

    pub fn blocks(&self) -> &[Block] {
        &self.active
    }

    pub fn is_on(&self, lane: usize) -> bool {
        self.active[lane / WIDTH][lane % WIDTH] != 0
    }

    /// The active invocations in order.
    pub fn lanes(&self) -> impl Iterator<Item = usize> + '_ {
        (0..self.active.len() * WIDTH).filter(|&lane| self.is_on(lane))
    }

    pub fn first_inactive(&self) -> usize {
        (0..self.num_all as usize).find(|&lane| !self.is_on(lane)).unwrap_or(0)
    }

    fn update(&mut self) {
        let mut count = 0;
        for (block, active) in self.active.iter_mut().enumerate() {
            let parts =
                [&self.condition, &self.in_loop, &self.in_iteration, &self.in_function].map(|part| &part[block]);
            for lane in 0..WIDTH {
                active[lane] = parts[0][lane] & parts[1][lane] & parts[2][lane] & parts[3][lane];
                count += active[lane] & 1;
            }
        }
        self.num_active = count;
    }

    fn push(stack: &mut Vec<Block>, mask: &[Block]) {
        stack.extend_from_slice(mask);
    }

    fn pop(stack: &mut Vec<Block>, mask: &mut [Block]) {
        let start = stack.len() - mask.len();
        mask.copy_from_slice(&stack[start..]);
        stack.truncate(start);
    }

    /// Goes into the branch of the active invocations whose `c` is not 0.
    pub fn enter_if(&mut self, c: &[Block]) {
        Self::push(&mut self.stack, &self.condition);
        // For the other branch, in case there is one.
        for (block, c) in c.iter().enumerate() {
            let (active, mut rest) = (self.active[block], NONE);
            for lane in 0..WIDTH {
                let taken = active[lane] & if c[lane] != 0 { u32::MAX } else { 0 };
                self.condition[block][lane] = taken;
                rest[lane] = active[lane] & !taken;
            }
            self.stack.push(rest);
        }
        self.update();
    }

    pub fn enter_else(&mut self) {
        let start = self.stack.len() - self.condition.len();
        self.condition.copy_from_slice(&self.stack[start..]);
        self.update();
    }

    pub fn end_if(&mut self) {
        let len = self.stack.len() - self.condition.len();
        self.stack.truncate(len);
        Self::pop(&mut self.stack, &mut self.condition);
        self.update();
    }

    /// Goes into a loop.
    pub fn enter_loop(&mut self) {
        Self::push(&mut self.stack, &self.in_iteration);
        self.in_iteration.fill(EVERY);
        self.enter_switch();
    }

    pub fn end_loop(&mut self) {
        Self::pop(&mut self.stack, &mut self.condition);
        Self::pop(&mut self.stack, &mut self.in_loop);
        Self::pop(&mut self.stack, &mut self.in_iteration);
        self.update();
    }

    /// Goes into a switch, which `break` leaves as it does a loop.
    pub fn enter_switch(&mut self) {
        Self::push(&mut self.stack, &self.in_loop);
        Self::push(&mut self.stack, &self.condition);
        self.condition.copy_from_slice(&self.active);
        self.in_loop.fill(EVERY);
    }

    pub fn end_switch(&mut self) {
        Self::pop(&mut self.stack, &mut self.condition);
        Self::pop(&mut self.stack, &mut self.in_loop);
        self.update();
    }

    /// Goes into a function.
    pub fn enter_function(&mut self) {
        Self::push(&mut self.stack, &self.in_function);
        self.enter_loop();
        self.in_function.fill(EVERY);
    }

    pub fn leave_function(&mut self) {
        Self::pop(&mut self.stack, &mut self.condition);
        Self::pop(&mut self.stack, &mut self.in_loop);
        Self::pop(&mut self.stack, &mut self.in_iteration);
        Self::pop(&mut self.stack, &mut self.in_function);
        self.update();
    }

    /// Takes the active invocations out of the iteration.
    pub fn continue_loop(&mut self) {
        remove(&mut self.in_iteration, &self.active);
        self.update();
    }

    /// Brings back those that a `continue` took out.
    pub fn resume_iteration(&mut self) {
        self.in_iteration.fill(EVERY);
        self.update();
    }

    pub fn break_loop(&mut self) {
        remove(&mut self.in_loop, &self.active);
        self.update();
    }

    /// Takes those out of the loop whose `c` is not 0.
    pub fn break_where(&mut self, c: &[Block]) {
        for (block, c) in c.iter().enumerate() {
            for (lane, &c) in c.iter().enumerate() {
                let leaves = self.active[block][lane] & if c != 0 { u32::MAX } else { 0 };
                self.in_loop[block][lane] &= !leaves;
            }
        }
        self.update();
    }

    pub fn return_from_function(&mut self) {
        remove(&mut self.in_function, &self.active);
        self.update();
    }
}

fn remove(mask: &mut [Block], active: &[Block]) {
    for (mask, active) in mask.iter_mut().zip(active) {
        for lane in 0..WIDTH {
            mask[lane] &= !active[lane];
        }
    }
}
