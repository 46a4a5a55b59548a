"""The syntax tree of a template, with a meter put wherever it can repeat or grow something.

The names called are methods of ``template_sandbox.Sandbox``.
"""

from __future__ import annotations

from jinja2 import nodes
from jinja2.visitor import NodeTransformer


def metered(tree: nodes.Template) -> nodes.Template:
    """Rewrite ``tree`` in place and return it."""
    _Meter().visit(tree)
    return tree


def _call(name: str, *args: nodes.Expr) -> nodes.Call:
    return nodes.Call(nodes.EnvironmentAttribute(name), list(args), [], None, None)


def _is_constant(node: nodes.Node) -> bool:
    if isinstance(node, (nodes.List, nodes.Tuple)):
        return all(map(_is_constant, node.items))
    return isinstance(node, nodes.Const)


class _Meter(NodeTransformer):
    def _with_step(self, node: nodes.For | nodes.Macro | nodes.CallBlock) -> nodes.Node:
        self.generic_visit(node)
        step = nodes.ExprStmt(_call("step")).set_lineno(node.lineno)
        node.body.insert(0, step)
        if isinstance(node, nodes.For) and node.test is not None:
            node.test = nodes.And(_call("step"), node.test)  # items that the test throws out take time as well
        return node

    visit_For = visit_Macro = visit_CallBlock = _with_step

    def visit_Concat(self, node: nodes.Concat) -> nodes.Node:
        self.generic_visit(node)
        return _call("glued", *node.nodes).set_lineno(node.lineno)

    def visit_Compare(self, node: nodes.Compare) -> nodes.Node:
        """Comparing with a constant ends at the constant's length; anything else may take its time."""
        self.generic_visit(node)
        cheap = all(operand.op in ("eq", "ne") for operand in node.ops) and (
            isinstance(node.expr, nodes.Const) or all(isinstance(operand.expr, nodes.Const) for operand in node.ops)
        )
        return node if cheap else _call("compared", node).set_lineno(node.lineno)

    def visit_Getitem(self, node: nodes.Getitem) -> nodes.Node:
        self.generic_visit(node)
        if not isinstance(node.arg, nodes.Slice):
            return node
        bounds = (bound or nodes.Const(None) for bound in (node.arg.start, node.arg.stop, node.arg.step))
        return _call("sliced", node.node, *bounds).set_lineno(node.lineno)

    def _literal(self, node: nodes.List | nodes.Tuple | nodes.Dict) -> nodes.Node:
        self.generic_visit(node)
        if _is_constant(node) or (isinstance(node, nodes.Tuple) and node.ctx != "load"):
            return node
        return _call("weighed", node).set_lineno(node.lineno)

    visit_List = visit_Tuple = visit_Dict = _literal
