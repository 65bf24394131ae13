use crate::{AssignError, AssignRequest, AssignmentMode, Family, Pool, PoolRef};

/// The pools that may serve one family of a request, in the order of their use before a strategy sees them.
pub(super) fn qualify(
    request: &AssignRequest,
    family: Family,
    pools: &[Pool],
) -> Result<Vec<Pool>, AssignError> {
    let named = &request.wanted(family).pools;
    let candidates = if named.is_empty() {
        let enabled: Vec<_> = pools
            .iter()
            .filter(|pool| pool.family() == family && !pool.disabled)
            .collect();
        if enabled.is_empty() {
            return Err(AssignError::NoPools {
                owner: request.owner.clone(),
                family,
            });
        }
        enabled
            .into_iter()
            .filter(|pool| {
                pool.assignment_mode == AssignmentMode::Automatic
                    && pool.selects_owner
                    && pool.selects_namespace
            })
            .collect()
    } else {
        named
            .iter()
            .map(|name| find(name, family, pools))
            .collect::<Result<Vec<_>, _>>()?
    };
    let kept = u32::from(request.host_reserved.first) + u32::from(request.host_reserved.last);
    let qualified: Vec<_> = candidates
        .into_iter()
        .filter(|pool| pool.uses.contains(&request.intended_use))
        .filter(|pool| kept < 1 << family.bits().saturating_sub(pool.block_size))
        .cloned()
        .collect();
    if qualified.is_empty() {
        let intended_use = request.intended_use;
        let owner = request.owner.clone();
        return Err(AssignError::NoQualifiedPool {
            owner,
            family,
            intended_use,
        });
    }
    Ok(qualified)
}

fn find<'a>(name: &PoolRef, family: Family, pools: &'a [Pool]) -> Result<&'a Pool, AssignError> {
    let pool = pools
        .iter()
        .find(|pool| match name {
            PoolRef::Name(name) => pool.name == *name,
            PoolRef::Cidr(cidr) => pool.cidr == *cidr,
        })
        .ok_or_else(|| AssignError::UnknownPool(name.clone()))?;
    if pool.family() != family {
        return Err(AssignError::WrongFamily {
            pool: name.clone(),
            family,
        });
    }
    if pool.disabled {
        return Err(AssignError::DisabledPool(name.clone()));
    }
    Ok(pool)
}
