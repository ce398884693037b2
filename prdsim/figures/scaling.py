"""x"""
def draw_scaling(request): raise NotImplementedError
