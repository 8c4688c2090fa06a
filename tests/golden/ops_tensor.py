"""Golden cases of the plain tensor ops: elementwise, reductions, shape."""
import numpy as np
import torch
import torch.nn.functional as F

from casefile import Case


def cases():
    return [*unary(), *binary(), *scalar(), *reductions(), *argmax(), *shapes()]


def unary():
    """Each input starts with the op's corner values (kinks, saturation), then goes on at random."""
    kinks = [0.0, -0.0, 1.0, -1.0]
    saturated = [0.0, -0.0, 1.0, -1.0, 40.0, -40.0, 100.0, -100.0]
    rows = [  # name, op, function, corner values, all positive, attrs
        ("neg", "neg", torch.neg, kinks, False, {}),
        ("exp", "exp", torch.exp, [0.0, -0.0, 1.0, -1.0, 80.0, -80.0, -1000.0], False, {}),
        ("log", "log", torch.log, [1.0, 1e-30, 1e30, 0.5], True, {}),
        ("log_at_zero", "log", torch.log, [0.0], True, {}),
        ("sqrt", "sqrt", torch.sqrt, [1.0, 4.0, 1e-30, 1e30], True, {}),
        ("sqrt_at_zero", "sqrt", torch.sqrt, [0.0], True, {}),
        ("abs", "abs", torch.abs, kinks, False, {}),
        ("reciprocal", "reciprocal", torch.reciprocal, [1.0, -1.0, 1e10, -1e10], False, {}),
        ("square", "square", torch.square, kinks, False, {}),
        ("relu", "relu", F.relu, kinks, False, {}),
        ("leaky_relu", "leaky_relu", F.leaky_relu, kinks, False, {"negative_slope": 0.01}),
        ("leaky_relu_steep", "leaky_relu", F.leaky_relu, kinks, False, {"negative_slope": 0.25}),
        ("sigmoid", "sigmoid", torch.sigmoid, saturated, False, {}),
        ("tanh", "tanh", torch.tanh, saturated, False, {}),
        ("gelu_none", "gelu", F.gelu, [0.0, -0.0, 5.0, -5.0, 30.0, -30.0], False, {"approximate": "none"}),
        ("gelu_tanh", "gelu", F.gelu, [0.0, -0.0, 5.0, -5.0, 30.0, -30.0], False, {"approximate": "tanh"}),
        ("silu", "silu", F.silu, [0.0, -0.0, 40.0, -40.0, 80.0, -80.0], False, {}),
        ("softplus", "softplus", F.softplus, saturated, False, {"beta": 1.0, "threshold": 20.0}),
        ("softplus_beta", "softplus", F.softplus, saturated, False, {"beta": 2.0, "threshold": 20.0}),
        ("clamp", "clamp", torch.clamp, [-0.5, 0.75, 0.0, -2.0, 2.0], False, {"min": -0.5, "max": 0.75}),
        ("clamp_min", "clamp", torch.clamp, [-0.5, 0.75, 0.0, -2.0, 2.0], False, {"min": -0.5, "max": None}),
        ("clamp_max", "clamp", torch.clamp, [-0.5, 0.75, 0.0, -2.0, 2.0], False, {"min": None, "max": 0.75}),
    ]
    for name, op, function, corners, positive, attrs in rows:
        case = Case(f"{name}", op, **attrs)
        x = case.normal(3, 7, scale=1.5)
        if op == "reciprocal":
            x = np.sign(x) * (abs(x) + 0.1)
        if positive:
            x = abs(x) + 0.05
        x.reshape(-1)[:len(corners)] = corners
        yield case.result(function(case.input("input", x), **attrs))


def binary():
    functions = {"add": torch.add, "sub": torch.sub, "mul": torch.mul, "div": torch.div, "pow": torch.pow,
                 "minimum": torch.minimum, "maximum": torch.maximum}
    shapes = [("same", (3, 4), (3, 4)), ("row", (3, 4), (4,)), ("column", (3, 4), (3, 1)), ("outer", (2, 1, 4), (3, 1)),
              ("channel", (2, 3, 2, 2), (1, 3, 1, 1)), ("left", (4,), (2, 3, 4)), ("scalar_b", (2, 3), ()),
              ("scalar_a", (), (2, 3))]
    for op, function in functions.items():
        for name, a_shape, b_shape in shapes:
            case = Case(f"{op}_{name}", op)
            a, b = case.normal(*a_shape), case.normal(*b_shape)
            if op == "div":
                b = np.where(b < 0, b - 0.3, b + 0.3)
            if op == "pow":
                a = abs(a) + 0.2
            if op in ("minimum", "maximum"):  # a scalar in the middle, so that both sides win somewhere
                a, b = (np.array(0.125) if x.ndim == 0 else x for x in (a, b))
            yield case.result(function(case.input("a", a), case.input("b", b)))
        if op in ("minimum", "maximum"):  # a tie gives half of the gradient to each side
            case = Case(f"{op}_ties", op)
            yield case.result(function(case.input("a", case.quantised(-1, 1, 4, 5)),
                                       case.input("b", case.quantised(-1, 1, 5))))
    # Base zero: 0^0 is 1, the base's gradient is 0 where the exponent is 0, the exponent's is 0 where the base is 0.
    case = Case("pow_base_zero", "pow")
    yield case.result(torch.pow(case.input("a", np.zeros(6)), case.input("b", np.array([0., 1., 2., 3., 1.5, 5.]))))


def scalar():
    for name, exponent, positive in [("2", 2, False), ("3", 3, False), ("1", 1, False), ("0", 0, False),
                                     ("half", 0.5, True), ("minus_1", -1, True), ("minus_half", -0.5, True),
                                     ("2_5", 2.5, True)]:
        case = Case(f"pow_scalar_{name}", "pow_scalar", exponent=float(exponent))
        x = case.normal(3, 5)
        if positive:
            x = abs(x) + 0.2
        else:
            x[0, :2] = [0, -1]
        yield case.result(torch.pow(case.input("input", x), exponent))
    for name, value in [("positive", 2.5), ("negative", -0.75), ("zero", 0.0)]:
        case = Case(f"add_scalar_{name}", "add_scalar", scalar=value)
        yield case.result(case.input("input", case.normal(3, 5)) + value)
        case = Case(f"mul_scalar_{name}", "mul_scalar", scalar=value)
        yield case.result(case.input("input", case.normal(3, 5)) * value)


def reductions():
    """`amax` shares the gradient evenly among all tied maxima, unlike max_pool2d."""
    shape = (3, 4, 5)
    for op, function in [("sum", torch.sum), ("mean", torch.mean), ("amax", torch.amax)]:
        for axes in [(0,), (1,), (2,), (0, 2), (1, 2), (0, 1, 2)]:
            for keepdim in (False, True):
                name = f"{op}_axes_{''.join(map(str, axes))}{'_keepdim' if keepdim else ''}"
                case = Case(name, op, axes=axes, keepdim=keepdim)
                yield case.result(function(case.input("input", case.normal(*shape)), dim=axes, keepdim=keepdim))
        case = Case(f"{op}_channels", op, axes=(0, 2, 3), keepdim=False)
        yield case.result(function(case.input("input", case.normal(2, 3, 4, 3)), dim=(0, 2, 3)))
        case = Case(f"{op}_long", op, axes=(1,), keepdim=False)
        yield case.result(function(case.input("input", case.normal(2, 257)), dim=1))
        case = Case(f"{op}_axis_of_one", op, axes=(1,), keepdim=False)
        yield case.result(function(case.input("input", case.normal(4, 1)), dim=1))
    for axes in [(1,), (0, 2), (0, 1, 2)]:
        case = Case(f"amax_ties_axes_{''.join(map(str, axes))}", "amax", axes=axes, keepdim=False)
        yield case.result(torch.amax(case.input("input", case.quantised(-1, 1, *shape)), dim=axes))


def argmax():
    """Among equal maxima the first index wins."""
    for name, shape, axis, keepdim, ties in [
            ("axis_0", (4, 6), 0, False, False), ("axis_1", (4, 6), 1, False, False),
            ("axis_1_keepdim", (4, 6), 1, True, False), ("3d_axis_1", (3, 4, 5), 1, False, False),
            ("ties_axis_0", (5, 6), 0, False, True), ("ties_axis_1", (5, 9), 1, False, True),
            ("long_ties", (2, 257), 1, False, True)]:
        case = Case(f"argmax_{name}", "argmax", axis=axis, keepdim=keepdim)
        x = case.input("input", case.quantised(-1, 1, *shape) if ties else case.normal(*shape), grad=False)
        indices = torch.argmax(x, dim=axis, keepdim=keepdim)
        first = np.argmax(x.numpy(), axis=axis, keepdims=keepdim)  # NumPy promises the first
        assert (indices.numpy() == first).all()
        case.output("output", indices)
        yield case


def shapes():
    for name, shape, axes in [("transpose", (3, 4), (1, 0)), ("cycle", (2, 3, 4), (2, 0, 1)),
                              ("swap_last", (2, 3, 4), (0, 2, 1)), ("nchw_to_nhwc", (2, 3, 4, 2), (0, 2, 3, 1)),
                              ("identity", (2, 3), (0, 1))]:
        case = Case(f"permute_{name}", "permute", axes=axes)
        yield case.result(case.input("input", case.normal(*shape)).permute(axes))
    for name, shape, start, stop, step in [("one_axis", (6, 4), (1, 0), (4, 4), (1, 1)),
                                           ("both_axes", (6, 7), (2, 3), (5, 7), (1, 1)),
                                           ("step_2", (7, 6), (0, 1), (7, 6), (2, 2)),
                                           ("step_3_3d", (3, 8, 5), (1, 0, 1), (2, 8, 5), (1, 3, 2)),
                                           ("whole", (3, 4), (0, 0), (3, 4), (1, 1))]:
        case = Case(f"slice_{name}", "slice", start=start, stop=stop, step=step)
        x = case.input("input", case.normal(*shape))
        yield case.result(x[tuple(slice(*s) for s in zip(start, stop, step))])
    for name, input_shapes, axis in [("axis_0", [(2, 3), (4, 3)], 0), ("axis_1", [(2, 3), (2, 1), (2, 4)], 1),
                                     ("channels", [(2, 1, 3, 3), (2, 2, 3, 3)], 1), ("one_input", [(2, 3)], 0),
                                     ("last_axis_3d", [(2, 2, 1), (2, 2, 5)], 2)]:
        case = Case(f"concat_{name}", "concat", axis=axis)
        yield case.result(torch.cat([case.input(f"input_{i}", case.normal(*s)) for i, s in enumerate(input_shapes)],
                                    dim=axis))
    for name, shape, to in [("row", (4,), (3, 4)), ("column", (3, 1), (3, 4)), ("scalar", (), (2, 3)),
                            ("middle", (2, 1, 3), (2, 4, 3)), ("new_axes", (1, 3), (2, 4, 3)), ("same", (2, 3), (2, 3))]:
        case = Case(f"broadcast_to_{name}", "broadcast_to", shape=to)
        yield case.result(torch.broadcast_to(case.input("input", case.normal(*shape)), to))
    for name, shape, padding in [("1d", (5,), [(2, 1)]), ("image", (1, 2, 3, 4), [(0, 0), (0, 0), (1, 1), (1, 1)]),
                                 ("uneven", (3, 4), [(0, 2), (3, 1)]), ("nothing", (2, 3), [(0, 0), (0, 0)])]:
        case = Case(f"pad_constant_{name}", "pad_constant", padding=padding, value=0.0)
        flat = [n for before, after in reversed(padding) for n in (before, after)]  # PyTorch lists the last axis first
        yield case.result(F.pad(case.input("input", case.normal(*shape)), flat, value=0.0))
