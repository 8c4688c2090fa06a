"""Golden cases of the network ops: matrix products, convolution, pooling, softmax, losses, batch norm."""
import numpy as np
import torch
import torch.nn.functional as F

from casefile import Case


def cases():
    return [*matmul(), *linear(), *conv2d(), *max_pool2d(), *avg_pool2d(), *adaptive_avg_pool2d(), *softmax(),
            *class_losses(), *elementwise_losses(), *batch_norm2d()]


def matmul():
    """`a` and `b` are stored as passed in; trans_a and trans_b swap their last two axes before the product."""
    rows = [  # name, shape of a, shape of b, trans_a, trans_b, bias
        ("2d", (5, 7), (7, 3), False, False, False),
        ("one_by_one", (1, 1), (1, 1), False, False, False),
        ("row_by_column", (1, 17), (17, 1), False, False, False),
        ("odd_tile", (17, 33), (33, 9), False, False, False),
        ("trans_a", (7, 5), (7, 3), True, False, False),
        ("trans_b", (5, 7), (3, 7), False, True, False),
        ("trans_ab", (7, 5), (3, 7), True, True, False),
        ("bias", (5, 7), (7, 3), False, False, True),
        ("trans_b_bias", (5, 7), (3, 7), False, True, True),
        ("batched", (4, 3, 5), (4, 5, 2), False, False, False),
        ("batched_trans_a", (4, 5, 3), (4, 5, 2), True, False, False),
        ("batched_trans_b", (4, 3, 5), (4, 2, 5), False, True, False),
        ("batched_bias", (4, 3, 5), (4, 5, 2), False, False, True),
        ("broadcast_b", (4, 3, 5), (5, 2), False, False, False),
        ("broadcast_a", (3, 5), (4, 5, 2), False, False, False),
        ("broadcast_batch_1", (1, 3, 5), (4, 5, 2), False, False, False),
        ("broadcast_both", (2, 1, 3, 4), (3, 4, 2), False, False, False),
    ]
    for name, a_shape, b_shape, trans_a, trans_b, with_bias in rows:
        case = Case(f"matmul_{name}", "matmul", trans_a=trans_a, trans_b=trans_b)
        a, b = case.input("a", case.normal(*a_shape)), case.input("b", case.normal(*b_shape))
        out = (a.mT if trans_a else a) @ (b.mT if trans_b else b)
        if with_bias:
            out = out + case.input("bias", case.normal(out.shape[-1]))
        yield case.result(out)


def linear():
    """input (N, in), weight (out, in), bias (out)."""
    rows = [("plain", (4, 7), 5, True, "none"), ("no_bias", (4, 7), 5, False, "none"), ("relu", (6, 9), 8, True, "relu"),
            ("batch_1", (1, 16), 10, True, "none"), ("wide", (3, 65), 17, True, "none")]
    for name, shape, num_out, with_bias, activation in rows:
        case = Case(f"linear_{name}", "linear", activation=activation)
        x = case.input("input", case.normal(*shape))
        weight = case.input("weight", case.normal(num_out, shape[1], scale=0.3))
        bias = case.input("bias", case.normal(num_out)) if with_bias else None
        out = F.linear(x, weight, bias)
        assert activation == "none" or out.abs().min() > 1e-4, name  # f32 must see the same signs
        yield case.result(activate(out, activation))


def conv2d():
    """input (N, C, H, W), weight (out, C/groups, kh, kw), bias (out)."""
    rows = [  # name, input, weight, stride, padding, dilation, groups, bias, activation
        ("lenet_conv1", (2, 1, 12, 12), (6, 1, 5, 5), (1, 1), (0, 0), (1, 1), 1, True, "none"),
        ("lenet_conv1_relu", (2, 1, 12, 12), (6, 1, 5, 5), (1, 1), (0, 0), (1, 1), 1, True, "relu"),
        ("lenet_conv2", (2, 6, 8, 8), (7, 6, 5, 5), (1, 1), (0, 0), (1, 1), 1, True, "none"),
        ("no_bias", (2, 3, 7, 6), (4, 3, 3, 3), (1, 1), (0, 0), (1, 1), 1, False, "none"),
        ("no_bias_relu", (2, 3, 7, 6), (4, 3, 3, 3), (1, 1), (0, 0), (1, 1), 1, False, "relu"),
        ("stride_2", (2, 3, 9, 8), (4, 3, 3, 3), (2, 2), (0, 0), (1, 1), 1, True, "none"),
        ("stride_over_kernel", (2, 2, 10, 11), (3, 2, 2, 2), (3, 3), (0, 0), (1, 1), 1, True, "none"),
        ("padding_1", (2, 3, 6, 5), (4, 3, 3, 3), (1, 1), (1, 1), (1, 1), 1, True, "none"),
        ("padding_2_stride_2", (1, 2, 7, 7), (3, 2, 5, 5), (2, 2), (2, 2), (1, 1), 1, True, "relu"),
        ("padding_over_kernel", (1, 2, 3, 3), (2, 2, 2, 2), (1, 1), (3, 3), (1, 1), 1, True, "none"),
        ("dilation_2", (2, 2, 9, 8), (3, 2, 3, 3), (1, 1), (0, 0), (2, 2), 1, True, "none"),
        ("dilation_2_padding_2", (1, 2, 7, 7), (3, 2, 3, 3), (1, 1), (2, 2), (2, 2), 1, False, "none"),
        ("dilation_uneven", (1, 2, 9, 9), (3, 2, 3, 2), (1, 2), (1, 0), (2, 3), 1, True, "none"),
        ("groups_2", (2, 4, 6, 6), (6, 2, 3, 3), (1, 1), (0, 0), (1, 1), 2, True, "none"),
        ("groups_2_stride_2_padding_1", (2, 4, 7, 6), (4, 2, 3, 3), (2, 2), (1, 1), (1, 1), 2, False, "relu"),
        ("depthwise", (2, 4, 6, 5), (4, 1, 3, 3), (1, 1), (1, 1), (1, 1), 4, True, "none"),
        ("depthwise_multiplier_2", (1, 3, 6, 6), (6, 1, 3, 3), (1, 1), (0, 0), (1, 1), 3, True, "none"),
        ("kernel_3x5", (2, 2, 7, 8), (3, 2, 3, 5), (1, 1), (0, 0), (1, 1), 1, True, "none"),
        ("kernel_1x7", (1, 2, 4, 9), (3, 2, 1, 7), (1, 1), (0, 3), (1, 1), 1, True, "none"),
        ("kernel_1x1", (2, 5, 4, 3), (7, 5, 1, 1), (1, 1), (0, 0), (1, 1), 1, True, "none"),
        ("kernel_1x1_stride_2", (2, 3, 5, 5), (4, 3, 1, 1), (2, 2), (0, 0), (1, 1), 1, False, "none"),
        ("kernel_is_image", (3, 2, 5, 5), (4, 2, 5, 5), (1, 1), (0, 0), (1, 1), 1, True, "none"),
        ("asymmetric", (2, 2, 9, 7), (3, 2, 3, 3), (2, 1), (0, 1), (1, 1), 1, True, "none"),
        ("asymmetric_swapped", (2, 2, 7, 9), (3, 2, 3, 3), (1, 2), (2, 0), (1, 1), 1, False, "none"),
        ("one_of_everything", (1, 1, 1, 1), (1, 1, 1, 1), (1, 1), (0, 0), (1, 1), 1, True, "none"),
    ]
    for name, shape, weight_shape, stride, padding, dilation, groups, with_bias, activation in rows:
        case = Case(f"conv2d_{name}", "conv2d", stride=stride, padding=padding, dilation=dilation, groups=groups,
                    activation=activation)
        x = case.input("input", case.normal(*shape))
        weight = case.input("weight", case.normal(*weight_shape, scale=0.3))
        bias = case.input("bias", case.normal(weight_shape[0])) if with_bias else None
        out = F.conv2d(x, weight, bias, stride, padding, dilation, groups)
        assert activation == "none" or out.abs().min() > 1e-4, name  # f32 must see the same signs
        yield case.result(activate(out, activation))


def activate(x, activation):
    return {"none": lambda: x, "relu": lambda: F.relu(x)}[activation]()


def max_pool2d():
    """`indices` point into the unpadded H*W plane. The ties cases hold small whole numbers: the first maximum wins."""
    rows = [  # name, input, kernel, stride, padding, dilation, ceil_mode, ties
        ("2x2", (2, 3, 6, 8), (2, 2), (2, 2), (0, 0), (1, 1), False, False),
        ("2x2_odd", (2, 2, 7, 5), (2, 2), (2, 2), (0, 0), (1, 1), False, False),
        ("2x2_ties", (2, 3, 8, 8), (2, 2), (2, 2), (0, 0), (1, 1), False, True),
        ("2x2_all_zero", (1, 2, 4, 4), (2, 2), (2, 2), (0, 0), (1, 1), False, "zero"),
        ("overlapping", (2, 2, 7, 7), (3, 3), (2, 2), (0, 0), (1, 1), False, False),
        ("overlapping_ties", (2, 2, 7, 7), (3, 3), (1, 1), (0, 0), (1, 1), False, True),
        ("stride_over_kernel", (2, 2, 8, 9), (2, 2), (3, 3), (0, 0), (1, 1), False, False),
        ("padding", (2, 2, 6, 7), (3, 3), (2, 2), (1, 1), (1, 1), False, False),
        ("padding_negative", (1, 2, 5, 5), (2, 2), (2, 2), (1, 1), (1, 1), False, "negative"),
        ("padding_ties", (2, 2, 7, 6), (3, 3), (2, 2), (1, 1), (1, 1), False, True),
        ("dilation", (2, 2, 8, 9), (2, 3), (1, 2), (0, 0), (2, 2), False, False),
        ("dilation_padding", (1, 2, 8, 8), (3, 3), (2, 2), (1, 1), (2, 2), False, False),
        ("ceil_mode", (2, 2, 7, 8), (3, 3), (2, 2), (0, 0), (1, 1), True, False),
        ("ceil_mode_drops_window", (1, 2, 3, 5), (2, 2), (2, 2), (1, 1), (1, 1), True, False),
        ("ceil_mode_dilation", (1, 2, 8, 7), (2, 2), (3, 2), (1, 0), (2, 2), True, False),
        ("uneven", (2, 2, 8, 7), (2, 3), (1, 2), (1, 0), (1, 1), False, False),
        ("whole_plane", (2, 3, 4, 5), (4, 5), (4, 5), (0, 0), (1, 1), False, False),
    ]
    for name, shape, kernel_size, stride, padding, dilation, ceil_mode, kind in rows:
        case = Case(f"max_pool2d_{name}", "max_pool2d", kernel_size=kernel_size, stride=stride, padding=padding,
                    dilation=dilation, ceil_mode=ceil_mode)
        values = {False: lambda: case.normal(*shape), True: lambda: case.quantised(-1, 2, *shape),
                  "zero": lambda: np.zeros(shape), "negative": lambda: -1 - abs(case.normal(*shape))}[kind]()
        x = case.input("input", values)
        out, indices = F.max_pool2d(x, kernel_size, stride, padding, dilation, ceil_mode, return_indices=True)
        case.result(out)
        case.output("indices", indices)
        yield case


def avg_pool2d():
    rows = [  # name, input, kernel, stride, padding, ceil_mode, count_include_pad, divisor_override
        ("2x2", (2, 3, 6, 8), (2, 2), (2, 2), (0, 0), False, True, None),
        ("2x2_odd", (2, 2, 7, 5), (2, 2), (2, 2), (0, 0), False, True, None),
        ("overlapping", (2, 2, 7, 7), (3, 3), (1, 1), (0, 0), False, True, None),
        ("stride_over_kernel", (2, 2, 8, 9), (2, 2), (3, 3), (0, 0), False, True, None),
        ("padding_counted", (2, 2, 6, 7), (3, 3), (2, 2), (1, 1), False, True, None),
        ("padding_not_counted", (2, 2, 6, 7), (3, 3), (2, 2), (1, 1), False, False, None),
        ("ceil_mode", (2, 2, 6, 8), (3, 3), (2, 2), (0, 0), True, True, None),
        ("ceil_mode_padding_counted", (1, 2, 6, 7), (3, 3), (2, 2), (1, 1), True, True, None),
        ("ceil_mode_padding_not_counted", (1, 2, 6, 7), (3, 3), (2, 2), (1, 1), True, False, None),
        ("ceil_mode_drops_window", (1, 2, 3, 5), (2, 2), (2, 2), (1, 1), True, True, None),
        ("divisor_override", (2, 2, 6, 7), (3, 3), (2, 2), (1, 1), False, True, 5),
        ("divisor_override_not_counted", (1, 2, 6, 7), (3, 3), (2, 2), (1, 1), True, False, 2),
        ("uneven", (2, 2, 8, 7), (2, 3), (1, 2), (1, 0), False, True, None),
    ]
    for name, shape, kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override in rows:
        case = Case(f"avg_pool2d_{name}", "avg_pool2d", kernel_size=kernel_size, stride=stride, padding=padding,
                    ceil_mode=ceil_mode, count_include_pad=count_include_pad, divisor_override=divisor_override)
        x = case.input("input", case.normal(*shape))
        yield case.result(F.avg_pool2d(x, kernel_size, stride, padding, ceil_mode, count_include_pad,
                                       divisor_override))


def adaptive_avg_pool2d():
    for name, shape, output_size in [("1x1", (2, 3, 7, 5), (1, 1)), ("3x2", (2, 3, 7, 5), (3, 2)),
                                     ("same_size", (1, 2, 4, 3), (4, 3)), ("larger", (1, 2, 3, 2), (5, 3))]:
        case = Case(f"adaptive_avg_pool2d_{name}", "adaptive_avg_pool2d", output_size=output_size)
        yield case.result(F.adaptive_avg_pool2d(case.input("input", case.normal(*shape)), output_size))


def softmax():
    for op, function in [("softmax", F.softmax), ("log_softmax", F.log_softmax)]:
        for name, shape, axis in [("axis_0", (5, 7), 0), ("axis_1", (5, 7), 1), ("3d_axis_0", (3, 4, 5), 0),
                                  ("3d_axis_1", (3, 4, 5), 1), ("3d_axis_2", (3, 4, 5), 2), ("one_class", (4, 1), 1),
                                  ("wide", (2, 129), 1)]:
            case = Case(f"{op}_{name}", op, axis=axis)
            yield case.result(function(case.input("input", case.normal(*shape, scale=2)), dim=axis))
        case = Case(f"{op}_large", op, axis=1)
        x = case.normal(6, 4)
        x[0], x[1], x[2], x[3] = [1e4, -1e4, 0, 1], [1e4, 1e4, -1e4, -1e4], [-1e4] * 4, [1e4, 9999, 9998, 9990]
        yield case.result(function(case.input("input", x), dim=1))



def class_losses():
    """input (N, C): logits for cross_entropy, log-probabilities for nll_loss. `ignore_index` null: no label is ignored."""
    rows = [  # name, reductions, weights, ignore_index, label_smoothing, labels
        ("plain", ("mean", "sum", "none"), False, None, 0.0, None),
        ("weight", ("mean", "sum", "none"), True, None, 0.0, None),
        ("ignore", ("mean", "sum", "none"), False, 255, 0.0, [3, 255, 0, 4, 255, 1]),
        ("ignore_class", ("mean",), False, 2, 0.0, [2, 1, 0, 2, 4, 3]),
        ("weight_ignore", ("mean", "sum", "none"), True, 255, 0.0, [3, 255, 0, 4, 255, 1]),
        ("all_ignored", ("mean", "sum", "none"), False, 255, 0.0, [255] * 6),
        ("smoothing", ("mean", "sum", "none"), False, None, 0.1, None),
        ("smoothing_1", ("mean",), False, None, 1.0, None),
        ("smoothing_weight", ("mean", "sum", "none"), True, None, 0.1, None),
        ("smoothing_ignore", ("mean", "sum", "none"), False, 255, 0.1, [3, 255, 0, 4, 255, 1]),
        ("smoothing_weight_ignore", ("mean", "sum", "none"), True, 255, 0.25, [3, 255, 0, 4, 255, 1]),
        ("large", ("mean",), False, None, 0.0, [0, 1, 2, 3, 4, 0]),
    ]
    for op in ("cross_entropy", "nll_loss"):
        for name, reductions, with_weight, ignore_index, label_smoothing, labels in rows:
            if op == "nll_loss" and (label_smoothing or name == "large"):
                continue
            for reduction in reductions:
                attrs = {"reduction": reduction, "ignore_index": ignore_index}
                extra = {"label_smoothing": label_smoothing} if op == "cross_entropy" else {}
                case = Case(f"{op}_{name}_{reduction}", op, **attrs, **extra)
                logits = case.normal(6, 5, scale=2)
                if name == "large":
                    logits[:3] = [[1e4, -1e4, 0, 1, 2], [1e4, -1e4, 0, 1, 2], [-1e4, -1e4, -1e4, -1e4, -1e4]]
                if op == "nll_loss":
                    logits = F.log_softmax(torch.tensor(logits), dim=1).numpy()
                x = case.input("input", logits)
                target = case.input("target", np.array(labels) if labels else case.labels(5, 6))
                weight = case.input("weight", case.uniform(0.2, 2, 5), grad=False) if with_weight else None
                ignored = -100 if ignore_index is None else ignore_index
                function = {"cross_entropy": F.cross_entropy, "nll_loss": F.nll_loss}[op]
                yield case.result(function(x, target, weight, ignore_index=ignored, reduction=reduction, **extra))


def elementwise_losses():
    """The target is a constant: only grad_input is given. Row 0 holds the corner values."""
    for op, function in [("mse_loss", F.mse_loss), ("l1_loss", F.l1_loss),
                         ("bce_with_logits", F.binary_cross_entropy_with_logits)]:
        for reduction in ("mean", "sum", "none"):
            case = Case(f"{op}_{reduction}", op, reduction=reduction)
            if op == "bce_with_logits":
                x, y = case.normal(4, 6, scale=3), case.quantised(0, 1, 4, 6)
                x[0], y[0] = [100, 100, -100, -100, 0, 0], [0, 1, 0, 1, 0, 1]
                y[1] = case.uniform(0, 1, 6)
                x[1, 0] = 0
            else:
                x, y = case.normal(4, 6), case.normal(4, 6)
                x[0, :3] = y[0, :3]  # exact zeros of the difference: the gradient there is 0
            yield case.result(function(case.input("input", x), case.input("target", y, grad=False),
                                       reduction=reduction))


def batch_norm2d():
    """input (N, C, H, W). `momentum` null is the cumulative average; `num_batches_tracked` counts batches before this one.
    In training `running_mean_after` and `running_var_after` are outputs."""
    rows = [  # name, input, training, eps, momentum, mean, scale
        ("train", (4, 3, 5, 4), True, 1e-5, 0.1, 0.5, 2),
        ("train_eps", (4, 3, 3, 3), True, 1e-3, 0.1, 0, 0.05),
        ("train_momentum", (3, 2, 4, 4), True, 1e-5, 0.7, 1, 1),
        ("train_two_values", (2, 3, 1, 1), True, 1e-5, 0.1, 0, 1),
        ("train_offset", (4, 3, 4, 4), True, 1e-5, 0.1, 1000, 1),
        ("train_constant", (2, 2, 3, 3), True, 1e-5, 0.1, 3, 0),
        ("eval", (4, 3, 5, 4), False, 1e-5, 0.1, 0.5, 2),
        ("eval_eps", (2, 3, 3, 3), False, 1e-2, 0.1, 0, 0.1),
        ("eval_one_value", (1, 3, 1, 1), False, 1e-5, 0.1, 0, 1),
    ]
    for name, shape, training, eps, momentum, mean, scale in rows:
        case = Case(f"batch_norm2d_{name}", "batch_norm2d", training=training, eps=eps, momentum=momentum,
                    num_batches_tracked=0)
        running = case.normal(shape[1]), case.uniform(0.5, 2, shape[1])
        yield run_batch_norm2d(case, case.normal(*shape, mean=mean, scale=scale), *running)
    running = np.zeros(3), np.ones(3)
    for i in range(3):  # three batches in a row, each starting from the statistics the one before left
        case = Case(f"batch_norm2d_cumulative_{i}", "batch_norm2d", training=True, eps=1e-5, momentum=None,
                    num_batches_tracked=i)
        run_batch_norm2d(case, case.normal(4, 3, 3, 4, mean=i, scale=1 + i), *running)
        running = case.tensors["running_mean_after"], case.tensors["running_var_after"]
        yield case


def run_batch_norm2d(case, values, mean, var):
    attrs = case.attrs
    module = torch.nn.BatchNorm2d(values.shape[1], attrs["eps"], attrs["momentum"], dtype=torch.float64)
    module.train(attrs["training"])
    module.num_batches_tracked.fill_(attrs["num_batches_tracked"])
    x = case.input("input", values)
    weight = case.input("weight", case.uniform(0.5, 2, values.shape[1]))
    bias = case.input("bias", case.normal(values.shape[1]))
    module.running_mean.copy_(case.input("running_mean", mean, grad=False))
    module.running_var.copy_(case.input("running_var", var, grad=False))
    out = torch.func.functional_call(module, {"weight": weight, "bias": bias}, (x,))
    case.result(out)
    if attrs["training"]:
        case.output("running_mean_after", module.running_mean)
        case.output("running_var_after", module.running_var)
    return case
