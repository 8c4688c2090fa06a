"""Golden optimizer steps and gradient clipping."""
import numpy as np
import torch

from casefile import Case

SHAPES = [(5, 3), (7,), (2, 3, 4)]
NUM_STEPS = 12
LR_CHANGE_STEP = 6  # steps 0 to 5 use the first learning rate, 6 to 11 three tenths of it

SGD = {"momentum": 0.0, "dampening": 0.0, "nesterov": False, "weight_decay": 0.0, "maximize": False}
ADAM = {"betas": (0.9, 0.999), "eps": 1e-8, "weight_decay": 0.0, "amsgrad": False}
ADAMW = {**ADAM, "weight_decay": 1e-2}
RMSPROP = {"alpha": 0.99, "eps": 1e-8, "weight_decay": 0.0, "momentum": 0.0, "centered": False}
NADAM = {"betas": (0.9, 0.999), "eps": 1e-8, "weight_decay": 0.0, "momentum_decay": 4e-3, "decoupled_weight_decay": False}
ADADELTA = {"rho": 0.9, "eps": 1e-6, "weight_decay": 0.0}
ADAGRAD = {"lr_decay": 0.0, "weight_decay": 0.0, "initial_accumulator_value": 0.0, "eps": 1e-10}

CONFIGS = [  # name, op, lr, defaults, changes
    ("sgd_plain", "sgd", 0.1, SGD, {}),
    ("sgd_weight_decay", "sgd", 0.1, SGD, {"weight_decay": 0.1}),
    ("sgd_momentum", "sgd", 0.1, SGD, {"momentum": 0.9}),
    ("sgd_momentum_weight_decay", "sgd", 0.1, SGD, {"momentum": 0.9, "weight_decay": 0.1}),
    ("sgd_dampening", "sgd", 0.1, SGD, {"momentum": 0.9, "dampening": 0.5}),
    ("sgd_dampening_weight_decay", "sgd", 0.1, SGD, {"momentum": 0.9, "dampening": 0.5, "weight_decay": 0.1}),
    ("sgd_nesterov", "sgd", 0.1, SGD, {"momentum": 0.9, "nesterov": True}),
    ("sgd_nesterov_weight_decay", "sgd", 0.1, SGD, {"momentum": 0.9, "nesterov": True, "weight_decay": 0.1}),
    ("sgd_maximize", "sgd", 0.1, SGD, {"momentum": 0.9, "weight_decay": 0.1, "maximize": True}),
    ("adam_plain", "adam", 0.01, ADAM, {}),
    ("adam_betas_eps", "adam", 0.01, ADAM, {"betas": (0.8, 0.95), "eps": 1e-3}),
    ("adam_weight_decay", "adam", 0.01, ADAM, {"weight_decay": 0.1}),
    ("adam_amsgrad", "adam", 0.01, ADAM, {"betas": (0.9, 0.8), "amsgrad": True}),
    ("adam_amsgrad_weight_decay", "adam", 0.01, ADAM, {"betas": (0.9, 0.8), "amsgrad": True, "weight_decay": 0.1}),
    ("adamw_plain", "adamw", 0.01, ADAMW, {}),
    ("adamw_weight_decay", "adamw", 0.01, ADAMW, {"weight_decay": 0.5}),
    ("adamw_no_weight_decay", "adamw", 0.01, ADAMW, {"weight_decay": 0.0}),
    ("adamw_amsgrad", "adamw", 0.01, ADAMW, {"betas": (0.9, 0.8), "amsgrad": True}),
    ("rmsprop_plain", "rmsprop", 0.01, RMSPROP, {}),
    ("rmsprop_alpha_eps", "rmsprop", 0.01, RMSPROP, {"alpha": 0.8, "eps": 1e-2}),
    ("rmsprop_momentum", "rmsprop", 0.01, RMSPROP, {"momentum": 0.9}),
    ("rmsprop_centered", "rmsprop", 0.01, RMSPROP, {"centered": True, "eps": 1e-3}),
    ("rmsprop_weight_decay", "rmsprop", 0.01, RMSPROP, {"weight_decay": 0.1}),
    ("rmsprop_everything", "rmsprop", 0.01, RMSPROP,
     {"alpha": 0.9, "eps": 1e-3, "momentum": 0.9, "centered": True, "weight_decay": 0.1}),
    ("adagrad_plain", "adagrad", 0.1, ADAGRAD, {}),
    ("adagrad_lr_decay", "adagrad", 0.1, ADAGRAD, {"lr_decay": 0.1}),
    ("adagrad_initial_accumulator", "adagrad", 0.1, ADAGRAD, {"initial_accumulator_value": 0.5, "eps": 1e-3}),
    ("adagrad_weight_decay", "adagrad", 0.1, ADAGRAD, {"weight_decay": 0.1}),
    ("adadelta_plain", "adadelta", 1.0, ADADELTA, {}),
    ("adadelta_everything", "adadelta", 0.5, ADADELTA, {"rho": 0.8, "eps": 1e-3, "weight_decay": 0.1}),
    ("nadam_plain", "nadam", 0.01, NADAM, {}),
    ("nadam_weight_decay", "nadam", 0.01, NADAM, {"betas": (0.8, 0.95), "weight_decay": 0.1, "momentum_decay": 0.5}),
    ("nadam_decoupled", "nadam", 0.01, NADAM, {"weight_decay": 0.1, "decoupled_weight_decay": True}),
]
CLASSES = {"sgd": torch.optim.SGD, "adam": torch.optim.Adam, "adamw": torch.optim.AdamW,
           "rmsprop": torch.optim.RMSprop, "adagrad": torch.optim.Adagrad,
           "adadelta": torch.optim.Adadelta,
           "nadam": torch.optim.NAdam}


def cases():
    return [*steps(), *clipping()]


def steps():
    """`param_i` is the start, `grad_i` (12, ...) the gradient of each step, output `param_i_steps` (12, ...) the value
    after each step; attr `lr` lists the learning rate of each step."""
    for name, op, lr, defaults, changes in CONFIGS:
        assert set(changes) <= set(defaults)
        options = {**defaults, **changes}
        lrs = [lr if step < LR_CHANGE_STEP else lr * 0.3 for step in range(NUM_STEPS)]
        case = Case(name, op, lr=lrs, **options)
        params = [torch.nn.Parameter(case.input(f"param_{i}", case.normal(*shape), grad=False).clone())
                  for i, shape in enumerate(SHAPES)]
        grads = [case.input(f"grad_{i}", gradients(case, shape), grad=False) for i, shape in enumerate(SHAPES)]
        # foreach=False: the plain one-tensor-at-a-time code, whose order of operations the documentation gives.
        optimizer = CLASSES[op](params, lr=lr, foreach=False, **options)
        # NAdam keeps its product of momenta in the default type.
        torch.set_default_dtype(torch.float64)
        history = [[] for _ in params]
        for step in range(NUM_STEPS):
            optimizer.param_groups[0]["lr"] = lrs[step]
            for param, grad in zip(params, grads):
                param.grad = grad[step].clone()
            optimizer.step()
            for values, param in zip(history, params):
                values.append(param.detach().clone())
        torch.set_default_dtype(torch.float32)
        for i, values in enumerate(history):
            case.output(f"param_{i}_steps", torch.stack(values))
        yield case


def gradients(case, shape):
    """Shrinking 40-fold over the steps, so that AMSGrad's maximum matters; the first element's gradient is always 0."""
    sizes = np.geomspace(2, 0.05, NUM_STEPS).reshape(-1, *[1] * len(shape))
    grads = case.normal(NUM_STEPS, *shape) * sizes
    grads.reshape(NUM_STEPS, -1)[:, 0] = 0
    return grads


def clipping():
    """The norm is taken over all the tensors together; scale = min(1, max_norm / (norm + 1e-6))."""
    for name, scale, max_norm, norm_type in [("active", 2.0, 1.0, 2.0), ("inactive", 0.01, 5.0, 2.0),
                                             ("near_one", 1.0, 6.5, 2.0), ("zero", 0.0, 1.0, 2.0),
                                             ("tiny", 1e-8, 1e-7, 2.0)]:
        case = Case(f"clip_grad_norm_{name}", "clip_grad_norm", max_norm=max_norm, norm_type=norm_type)
        params = with_grads(case, scale)
        norm = torch.nn.utils.clip_grad_norm_(params, max_norm, norm_type, foreach=False)
        case.output("total_norm", norm)
        yield with_clipped(case, params)
    for name, scale, clip_value in [("active", 2.0, 0.5), ("inactive", 0.1, 10.0)]:
        case = Case(f"clip_grad_value_{name}", "clip_grad_value", clip_value=clip_value)
        params = with_grads(case, scale)
        torch.nn.utils.clip_grad_value_(params, clip_value, foreach=False)
        yield with_clipped(case, params)


def with_grads(case, scale):
    params = []
    for i, shape in enumerate(SHAPES):
        params.append(torch.nn.Parameter(torch.zeros(shape, dtype=torch.float64)))
        params[-1].grad = case.input(f"grad_{i}", case.normal(*shape, scale=scale), grad=False).clone()
    return params


def with_clipped(case, params):
    for i, param in enumerate(params):
        case.output(f"clipped_{i}", param.grad)
    return case
