"""From raw text to the objective: token store → segments → masks → losses of generator and discriminator."""
