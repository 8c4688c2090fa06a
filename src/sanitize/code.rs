//! The flat code that a kernel is lowered to. Registers hold one 32-bit scalar for each invocation of a workgroup;
//! vectors, matrices and structs are several of them. Calls are inlined, so pointers are known when code is made and
//! only indices are left to run time. Control flow is structured: instructions push, narrow and pop masks.

/// A register: one scalar for every invocation.
pub(super) type Reg = u32;

/// A place in the code.
pub(super) type Pc = u32;

/// One scalar in, one scalar out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unary {
    /// Copies bits: a bitcast or another name.
    Copy,
    NegF,
    NegI,
    NotB,
    NotBits,
    AbsF,
    AbsI,
    SignF,
    SignI,
    Floor,
    Ceil,
    Round,
    Trunc,
    Fract,
    Saturate,
    Sqrt,
    InverseSqrt,
    Exp,
    Exp2,
    Log,
    Log2,
    Sin,
    Cos,
    Tan,
    Asin,
    Acos,
    Atan,
    Sinh,
    Cosh,
    Tanh,
    Asinh,
    Acosh,
    Atanh,
    /// Conversions: from, to.
    FToI,
    FToU,
    IToF,
    UToF,
    IToU,
    UToI,
    FToB,
    IToB,
    BToF,
    IsNan,
    IsInf,
    CountOnes,
    LeadingZeros,
    TrailingZeros,
    ReverseBits,
    FirstLeadingU,
    FirstLeadingI,
    FirstTrailing,
}

/// Two scalars in, one out. Comparisons that are not here swap their operands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Binary {
    AddF,
    SubF,
    MulF,
    DivF,
    RemF,
    MinF,
    MaxF,
    Pow,
    Atan2,
    Step,
    Ldexp,
    AddI,
    SubI,
    MulI,
    DivI,
    RemI,
    MinI,
    MaxI,
    AddU,
    SubU,
    MulU,
    DivU,
    RemU,
    MinU,
    MaxU,
    And,
    Or,
    Xor,
    Shl,
    ShrI,
    ShrU,
    Eq,
    Ne,
    EqF,
    NeF,
    LtF,
    LeF,
    LtI,
    LeI,
    LtU,
    LeU,
}

/// How many elements an index may address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Length {
    Fixed(u32),
    /// As many as fit into the binding after `offset` words, each `stride` words long.
    Runtime {
        global: u16,
        offset: u32,
        stride: u32,
    },
}

/// What an atomic does to a word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Atomic {
    Add,
    Sub,
    And,
    Or,
    Xor,
    MinI,
    MaxI,
    MinU,
    MaxU,
    Exchange,
    /// Exchanges where the word equals what this register holds; a second result says whether it did.
    CompareExchange(Reg),
}

/// Whose value an invocation takes in a subgroup.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Gather {
    First,
    Lane(Reg),
    Down(Reg),
    Up(Reg),
    Xor(Reg),
    QuadLane(Reg),
    QuadSwap(u32),
}

/// A reduction or a scan over a subgroup.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scan {
    Reduce,
    Inclusive,
    Exclusive,
}

/// What a subgroup operation combines with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Combine {
    All,
    Any,
    /// An operator and its neutral element.
    With(Binary, u32),
}

/// An address: a fixed number of words from the start of a variable and, where indices are not constant, a register
/// with the rest.
#[derive(Clone, Copy, Debug)]
pub(super) struct Address {
    /// Index into [`Code::globals`].
    pub global: u16,
    pub index: Option<Reg>,
    pub offset: u32,
}

/// Numbers of words, as a part of [`Code::offsets`]: where the scalars of a type lie in memory.
#[derive(Clone, Copy, Debug)]
pub(super) struct Offsets {
    pub start: u32,
    pub len: u32,
}

/// One instruction. `d` is the register that is written, and of several the first.
#[derive(Clone, Copy, Debug)]
pub(super) enum Op {
    Unary {
        op: Unary,
        d: Reg,
        a: Reg,
    },
    Binary {
        op: Binary,
        d: Reg,
        a: Reg,
        b: Reg,
    },
    Fma {
        d: Reg,
        a: Reg,
        b: Reg,
        c: Reg,
    },
    /// `d = if c { a } else { b }`.
    Select {
        d: Reg,
        c: Reg,
        a: Reg,
        b: Reg,
    },
    /// Writes a variable: invocations that are not active keep its value.
    Set {
        d: Reg,
        a: Reg,
    },
    /// Reads `n` registers from `base + index` on, where the index differs between invocations.
    GetIndexed {
        d: Reg,
        base: Reg,
        index: Reg,
        n: u32,
    },
    SetIndexed {
        base: Reg,
        index: Reg,
        a: Reg,
        n: u32,
    },
    /// Complains where an active invocation has not written the variable yet.
    CheckWritten {
        flag: Reg,
        name: u16,
    },
    /// `d = base + index * stride`, complaining and marking where `index` is not below `len`.
    Index {
        d: Reg,
        base: Option<Reg>,
        index: Reg,
        stride: u32,
        len: Length,
        name: u16,
    },
    /// Reads scalars into registers from `d` on.
    Load {
        d: Reg,
        at: Address,
        words: Offsets,
    },
    /// Writes registers from `a` on, masked.
    Store {
        a: Reg,
        at: Address,
        words: Offsets,
    },
    AtomicLoad {
        d: Reg,
        at: Address,
    },
    AtomicStore {
        a: Reg,
        at: Address,
    },
    Atomic {
        fun: Atomic,
        d: Option<Reg>,
        at: Address,
        a: Reg,
    },
    ArrayLength {
        d: Reg,
        global: u16,
        offset: u32,
        stride: u32,
    },
    Barrier {
        workgroup: bool,
        storage: bool,
    },
    /// `workgroupUniformLoad`: complains where invocations read different words.
    UniformCheck {
        at: Address,
    },
    Gather {
        d: Reg,
        a: Reg,
        from: Gather,
    },
    Scan {
        d: Reg,
        a: Reg,
        scan: Scan,
        with: Combine,
    },
    Ballot {
        d: Reg,
        a: Option<Reg>,
    },
    If {
        c: Reg,
        otherwise: Pc,
    },
    Else {
        end: Pc,
    },
    EndIf,
    Enter,
    Leave,
    Return,
    /// Goes on at `to` where no invocation is active.
    SkipIfNone {
        to: Pc,
    },
    Loop,
    Head {
        id: u16,
        end: Pc,
    },
    Break,
    Continue,
    Continuing,
    BreakIf {
        c: Reg,
    },
    Repeat {
        head: Pc,
    },
    EndLoop,
    Switch,
    EndSwitch,
}

/// A variable that is shared by invocations.
#[derive(Clone, Debug)]
pub(super) struct Global {
    pub name: String,
    /// The binding, or `None` for workgroup memory.
    pub binding: Option<(u32, u32)>,
    pub writable: bool,
    /// Whether it is a uniform buffer, which GPUs read through a cache of its own.
    pub is_uniform: bool,
    /// Words from the start of workgroup memory.
    pub base: u32,
    /// Words that it takes at least.
    pub words: u32,
}

/// A lowered entry point.
#[derive(Clone, Debug, Default)]
pub(super) struct Code {
    pub ops: Vec<Op>,
    /// For each instruction, the line of the source, from 1 on; 0 where it is not known.
    pub lines: Vec<u32>,
    pub num_regs: u32,
    pub constants: Vec<(Reg, u32)>,
    pub offsets: Vec<u32>,
    pub globals: Vec<Global>,
    /// Names of variables, for findings.
    pub names: Vec<String>,
    /// Registers that hold values of built-in inputs.
    pub inputs: Vec<(Reg, Input)>,
    /// The line of each loop.
    pub loops: Vec<u32>,
    pub workgroup_words: u32,
    pub workgroup_size: [u32; 3],
    pub uses_subgroups: bool,
}

/// A built-in value, by component.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Input {
    GlobalId(usize),
    LocalId(usize),
    LocalIndex,
    WorkgroupId(usize),
    NumWorkgroups(usize),
    SubgroupSize,
    SubgroupLane,
    SubgroupId,
    NumSubgroups,
}
