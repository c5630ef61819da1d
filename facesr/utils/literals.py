"""Python files that hold plain values alone, read without running them."""
import ast
import math

NAMED = dict(inf=math.inf, nan=math.nan)  # as `repr` writes them


def read_literals(text: str) -> dict:
    """The variables of a Python file that only assigns plain values: numbers, texts, lists, dicts (`dict(a=1)` too).

    Raises:
        ValueError: There is something else in it; the message names the line.
    """
    try:
        statements = ast.parse(text).body
    except (SyntaxError, RecursionError, MemoryError, ValueError) as error:
        raise ValueError(f'not Python ({type(error).__name__})') from error
    found = {}
    for statement in statements:
        if isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant):
            continue  # a docstring
        if not (isinstance(statement, ast.Assign) and len(statement.targets) == 1
                and isinstance(statement.targets[0], ast.Name)):
            raise ValueError(f'line {statement.lineno} is more than plain values')
        found[statement.targets[0].id] = _value(statement.value)
    return found


def _value(node):
    if isinstance(node, ast.Constant):
        return node.value
    if isinstance(node, (ast.List, ast.Tuple, ast.Set)):
        kind = {ast.List: list, ast.Tuple: tuple, ast.Set: set}[type(node)]
        return kind(_value(item) for item in node.elts)
    if isinstance(node, ast.Dict) and None not in node.keys:
        return {_value(key): _value(value) for key, value in zip(node.keys, node.values, strict=True)}
    if isinstance(node, ast.Name) and node.id in NAMED:
        return NAMED[node.id]
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        value = _value(node.operand)
        if isinstance(value, (int, float)):
            return -value
    if (isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == 'dict' and not node.args
            and all(keyword.arg for keyword in node.keywords)):
        return {keyword.arg: _value(keyword.value) for keyword in node.keywords}
    raise ValueError(f'line {node.lineno} is more than plain values')
