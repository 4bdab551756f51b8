"""Self-attention with all heads, which the other architectures have in the place of ConvBERT's mixed attention.

Dimension letters: B batch, L length, H heads, D head size, E hidden size (= H·D).
"""

from paddle import nn

from layers.dense import Linear, dropout_add_norm, side_by_side, untouched
from layers.fast_path import compiled, on_fast_path
from modeling import attention


class SelfAttention(nn.Layer):
    def __init__(self, config):
        super().__init__()
        self.config = config
        hidden = config.hidden_size
        self.q_proj = Linear(config, hidden, hidden)
        self.k_proj = Linear(config, hidden, hidden)
        self.v_proj = Linear(config, hidden, hidden)
        self.out_proj = Linear(config, hidden, hidden)

    def weights(self, norm):
        """All weights as cpu.self_attention takes them; `norm` is the LayerNorm that follows."""
        return [w for part in (*self._parts(), norm) for w in (part.weight, part.bias)]

    def is_untouched(self):
        """Whether `weights` are all that counts."""
        return untouched(*self._parts())

    def for_inference(self, norm):
        """See modeling.MixedAttention.for_inference."""
        return False, self.weights(norm), self.config.num_attention_heads

    def _parts(self):
        return self.q_proj, self.k_proj, self.v_proj, self.out_proj

    def forward(self, x, mask, real, norm, return_attentions=False):
        """The first half of a layer, see modeling.MixedAttention.forward; `real` is for convolutions and not read."""
        config, heads = self.config, self.config.num_attention_heads
        rates = config.attention_probs_dropout_prob, config.hidden_dropout_prob
        weights = self.weights(norm) if self.is_untouched() and untouched(norm) else []
        if weights and not return_attentions and mask.stop_gradient and on_fast_path(x, mask, *weights):
            fast = compiled().self_attention.self_attention  # the same, in one forward and one backward
            return fast(x, mask, weights, heads, config.layer_norm_eps, *rates, self.training), None

        by_head = [0, 0, heads, config.head_size]  # a reshape to [B, L, H, D]
        query, key, value = (part.reshape(by_head) for part in side_by_side(x, *self._parts()[:3]))
        attended, probabilities = attention(query, key, value, mask, rates[0], self.training, return_attentions)
        return dropout_add_norm(self.out_proj(attended.flatten(2)), x, norm, rates[1], self.training), probabilities
