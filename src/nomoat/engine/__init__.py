"""One way to generate and to score: chat, evaluation, rollouts and served requests all go through here."""
